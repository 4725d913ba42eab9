#!/usr/bin/env bash
# Is a mistake in a kernel's source found in what it is compiled to? Plants one mistake after the other in a copy of the
# committed tree, builds it, and lets adaloss-audit look:
#
#     gpu/planted.sh                                every mistake in planted/
#     gpu/planted.sh planted/early-return.patch     this one
#
# A patch's first line names a kernel in which it is to be found. Needs what entry/build.sh needs. Fails unless each is found.
set -euo pipefail
cd "$(dirname "$0")"

patches=("$@")
[ ${#patches[@]} -gt 0 ] || patches=(planted/*.patch)
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git -C .. archive HEAD | tar -x -C "$copy"
export PTX_TARGET_DIR=$PWD/../target/planted-ptx

missed=0
for patch in "${patches[@]}"; do
    kernel=$(sed -n '1s/^found in: //p' "$patch")
    patch --quiet --directory="$copy" -p1 <"$patch"
    "$copy"/gpu/entry/build.sh sm_90a >"$copy"/kernels.ptx
    if cargo run --quiet --release --locked -p adaloss-audit -- ptx "$copy"/kernels.ptx >"$copy"/found 2>/dev/null ||
        ! grep -q ": $kernel: " "$copy"/found; then
        echo "$patch: is not found in $kernel"
        missed=$((missed + 1))
    else
        echo "$patch: found in $(wc -l <"$copy"/found) places, $kernel among them"
    fi
    patch --quiet --directory="$copy" -p1 --reverse <"$patch"
done
[ "$missed" = 0 ]
