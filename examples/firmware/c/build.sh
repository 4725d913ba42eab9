#!/usr/bin/env bash
# Builds the programs in C for a microcontroller: ./build.sh TARGET
# Prints the folder they are in; exits with 3 where there is no compiler for it. The library is the only one that is
# linked, but for what the compiler itself calls: memcpy and arithmetic are in libadaloss.a too.
set -euo pipefail
cd "$(dirname "$0")"

target=$1 compiler=arm-none-eabi-gcc first=
case $target in
thumbv7em-none-eabihf) board=cortex-m4f options=(-mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16) ;;
# Not the micro:bit, but for the first program: the library has up to 5 kB on the stack, the
# model of an accelerator 6 kB.
thumbv6m-none-eabi) board=cortex-m0-64k first=cortex-m0 options=(-mcpu=cortex-m0 -mthumb) ;;
riscv32imac-unknown-none-elf)
    board=riscv32 options=(-march=rv32imac_zicsr -mabi=ilp32 -Wl,--no-warn-rwx-segments)
    compiler=riscv64-unknown-elf-gcc
    ;;
*) echo "there is no board with a $target" >&2 && exit 2 ;;
esac
command -v "$compiler" >/dev/null || { echo "programs in C for $target need $compiler" >&2 && exit 3; }
options+=(-std=c99 -ffreestanding -Os -ffunction-sections -fdata-sections -Wall -Wextra -Wpedantic -Wconversion -Werror)
linker=(-nostdlib -Wl,--gc-sections -Wl,-z,noexecstack)

folder=$(../build.sh adaloss-capi "$target")
mkdir -p "$folder/c"
program() { # its name, and what else it is made of
    "$compiler" "${options[@]}" -I ../../../capi/include "${linker[@]}" -T "../memory/$board.x" -T board.ld \
        "$1.c" board.c "${@:2}" "$folder/libadaloss.a" -lgcc -o "$folder/c/$1" >&2
}
board=${first:-$board} program first
program walk driver.c model.c -DACCELERATOR_BLOCKS=96
# The suite wants 128 KiB.
[ "$board" = cortex-m0-64k ] || program conform driver.c model.c -DACCELERATOR_BLOCKS=2048
echo "$folder/c"
