#!/usr/bin/env bash
# Builds the programs of a package for a microcontroller: ./build.sh PACKAGE TARGET [options of cargo]
# Prints the folder they are in; exits with 3 where there is no compiler for it. With rustup's target if it is there,
# else from the sources of Debian's rust-web-src with the compiler they belong to, which links with lld-22.
# The package adaloss-capi is the C library, of the workspace above: it becomes libadaloss.a, as small as programs here.
set -euo pipefail
cd "$(dirname "$0")"

package=$1 target=$2
build=(build)
if [ "$package" = adaloss-capi ]; then
    build=(rustc --manifest-path ../../capi/Cargo.toml --crate-type staticlib)
    export CARGO_PROFILE_RELEASE_OPT_LEVEL=s CARGO_PROFILE_RELEASE_LTO=fat CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1
fi
build+=(--release --locked --package "$package" --target "$target" "${@:3}")
folder=$(realpath -m "${CARGO_TARGET_DIR:-target}")
if rustup target list --installed 2>/dev/null | grep -qx "$target"; then
    CARGO_TARGET_DIR=$folder cargo "${build[@]}" >&2
elif [ -x /usr/bin/cargo ] && compgen -G '/usr/src/rustc-*/library/core' >/dev/null && command -v ld.lld-22 >/dev/null; then
    # The compilers' outputs do not mix.
    folder=$folder/debian
    RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc CARGO_TARGET_DIR=$folder /usr/bin/cargo "${build[@]}" -Zbuild-std=core >&2
else
    echo "firmware needs the target $target: rustup target add $target," \
        "or apt-get install rustc-web cargo-web rust-web-src lld-22" >&2
    exit 3
fi
echo "$folder/$target/release"
