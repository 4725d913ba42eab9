#!/usr/bin/env bash
# What each feature takes on a Cortex-M4F and a Cortex-M0, as a table: code and constants beyond a program without it,
# what it keeps, and its stack as it was measured in QEMU. A second table has a whole program in C. Fails where a promise
# about sizes is broken.
set -euo pipefail
cd "$(dirname "$0")"

features=(observe narrow unscale measured uncertified amax normal scaler checkpoint)

# Bytes of a program that have to be in flash.
flash() {
    local sum=0 size
    for size in $(readelf -SW "$1" | awk '/ \.(vector_table|text|rodata|data) / { sub(/.*\]/, ""); print $5 }'); do
        sum=$((sum + 16#$size))
    done
    echo "$sum"
}

# Bytes of a program that are in RAM, but for its stack.
ram() {
    local sum=0 size
    for size in $(readelf -SW "$1" | awk '/ \.(data|bss) / { sub(/.*\]/, ""); print $5 }'); do
        sum=$((sum + 16#$size))
    done
    echo "$sum"
}

run() {
    local machine=("-machine" "microbit")
    [ "$1" = thumbv6m-none-eabi ] || machine=("-machine" "mps2-an386")
    timeout 60 qemu-system-arm "${machine[@]}" -nographic -monitor none -serial none \
        -semihosting-config enable=on,target=native -kernel "$2"
}

failed=0
promise() { # name, bytes, at most
    [ "$2" -le "$3" ] || { echo "$1 takes $2 bytes, promised are $3" >&2 && failed=1; }
}

declare -A code kept stack
for target in thumbv7em-none-eabihf thumbv6m-none-eabi; do
    folder=$(./build.sh adaloss-size "$target")
    none=$(flash "$folder/none")
    for feature in "${features[@]}"; do
        code[$target $feature]=$(($(flash "$folder/$feature") - none))
    done
    # What is called per element may multiply floats, never divide them, and knows no double.
    for feature in observe narrow unscale; do
        if nm "$folder/$feature" | grep -E '__aeabi_(d|fdiv|f2d|i2d|l2d)|__(div|add|sub|mul)df3|__divsf3|__extendsfdf2'; then
            echo "$feature calls that on $target" >&2
            failed=1
        fi
    done
    folder=$(./build.sh adaloss-size "$target" --features stack)
    for feature in "${features[@]}"; do
        read -r "kept[$target $feature]" "stack[$target $feature]" < <(run "$target" "$folder/$feature")
    done
done

m4=thumbv7em-none-eabihf m0=thumbv6m-none-eabi
promise "measured with certificates on a Cortex-M4F" "${code[$m4 measured]}" $((9 * 512))
promise "measured without certificates on a Cortex-M4F" "${code[$m4 uncertified]}" $((5 * 256))
promise "normal on a Cortex-M4F" "${code[$m4 normal]}" $((12 * 1024))

echo "| feature | keeps | code, M4F | stack, M4F | code, M0 | stack, M0 |"
echo "|---|---|---|---|---|---|"
for feature in "${features[@]}"; do
    echo "| \`$feature\` | ${kept[$m0 $feature]} | ${code[$m4 $feature]} | ${stack[$m4 $feature]} | ${code[$m0 $feature]} | ${stack[$m0 $feature]} |"
done

# Recorded layers, which the program in C walks.
here=$PWD record=$(mktemp -d)
trap 'rm -r "$record"' EXIT
cargo run --quiet --release --locked -p adaloss-firmware-host -- record "$record/record"
cd "$record"
row="| \`walk\` in C |"
for target in "$m4" "$m0"; do
    program=$("$here/c/build.sh" "$target")/walk
    machine=(-machine mps2-an386)
    [ "$target" = "$m4" ] || machine=(-machine lm3s6965evb -cpu cortex-m0)
    used=$(timeout 60 qemu-system-arm "${machine[@]}" -nographic -monitor none -serial none -semihosting-config \
        enable=on,target=native,arg=walk,arg=measured,arg=stack -kernel "$program" | sed -n 's/^stack //p')
    row+=" $(flash "$program") | $(ram "$program") | $used |"
done
echo
echo "| program | flash, M4F | RAM, M4F | stack, M4F | flash, M0 | RAM, M0 | stack, M0 |"
echo "|---|---|---|---|---|---|---|"
echo "$row"
exit $failed
