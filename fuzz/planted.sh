#!/usr/bin/env bash
# Do the targets find what they are for? Plants one mistake after the other in a copy of the committed tree and
# gives a target a minute, from no corpus at all:
#
#     fuzz/planted.sh                       every mistake in planted/
#     fuzz/planted.sh planted/tie.patch     this one
#
# A patch's first line names the target. Needs cargo-fuzz. Fails unless each mistake is found.
set -euo pipefail
cd "$(dirname "$0")"

patches=("$@")
[ ${#patches[@]} -gt 0 ] || patches=(planted/*.patch)
export RUSTC_BOOTSTRAP=1
export CARGO_TARGET_DIR=$PWD/target/planted
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git -C .. archive HEAD | tar -x -C "$copy"

missed=0
for patch in "${patches[@]}"; do
    target=$(sed -n '1s/^target: //p' "$patch")
    patch --quiet --directory="$copy" -p1 <"$patch"
    (cd "$copy"/fuzz && cargo fuzz build --fuzz-dir . -s none --no-trace-compares "$target" 2>"$copy"/log) || { cat "$copy"/log >&2 && exit 1; }
    program=$CARGO_TARGET_DIR/$(rustc -vV | sed -n 's/^host: //p')/release/$target
    begin=$(date +%s%N)
    if "$program" -max_total_time=60 -max_len=4096 -artifact_prefix="$copy"/ >"$copy"/log 2>&1; then
        echo "$patch: $target finds nothing in a minute"
        missed=$((missed + 1))
    else
        took=$((($(date +%s%N) - begin) / 1000000))
        echo "$patch: $target finds it in $took ms: $(grep -m1 -A1 'panicked at' "$copy"/log | cut -c 1-100 | paste -sd ' ')"
    fi
    patch --quiet --directory="$copy" -p1 --reverse <"$patch"
done
[ "$missed" = 0 ]
