#!/usr/bin/env bash
# Does a test fail for every change to core? Takes files below core/src, all of them where none is named, and
# options of cargo mutants:
#
#     .ci/mutants.sh                             every mutant: some hours of two cores
#     .ci/mutants.sh --shard 0/16                one in sixteen of each room
#     .ci/mutants.sh core/src/unscale.rs         those of a file
#
# A mutant meets the tests of its room first, which is quick; only those that survive them meet all tests of core.
# Prints the mutants that survive those too, and how many there were. The mutants that change nothing are in
# .cargo/mutants.toml, each with the reason. Needs cargo-mutants.
set -euo pipefail
cd "$(dirname "$0")/.."

out=target/mutants
files=() options=()
for argument in "$@"; do
    case $argument in
        core/src/*) files+=("$argument") ;;
        *) options+=("$argument") ;;
    esac
done
[ ${#files[@]} -gt 0 ] || mapfile -t files < <(git ls-files 'core/src/*.rs')

# Keeps what was built between runs; a mutant that survives is for the count, not an error.
mutate() {
    mkdir -p "$1"
    CARGO_TARGET_DIR=$PWD/$out/build cargo mutants --no-times --package adaloss-core --output "$@" >>"$out/log" ||
        case $? in 2 | 3) ;; *) tail -n 40 "$out/log" >&2 && return 1 ;; esac
}

# Counts the mutants of the first or of the second round that ended so.
count() { cat /dev/null "$out"/*/"$1"/mutants.out/"$2".txt 2>/dev/null | wc -l; }

mkdir -p "$out"
rm -rf "$out"/*/first "$out"/*/all "$out/log"
for room in format scale statistics policy apply propagate unscale scaler; do
    of_room=()
    for file in "${files[@]}"; do
        case $file in
            core/src/"$room".rs | core/src/"$room"/*) of_room+=(--file "$file") ;;
        esac
    done
    [ ${#of_room[@]} -gt 0 ] || continue
    tests=(--cargo-arg=--lib "--cargo-arg=--test=$room")
    # What the authors' code returned holds the paper's policies.
    [ "$room" != policy ] || tests+=(--cargo-arg=--test=golden)
    mutate "$out/$room/first" "${of_room[@]}" "${tests[@]}" "${options[@]}"

    # Each survivor by its whole name, as an expression that matches nothing else.
    missed=$out/$room/first/mutants.out/missed.txt
    mapfile -t survivors < <(sed -e 's/[][\\.+*?(){}|^$]/\\&/g' -e 's/.*/--re=^&$/' "$missed")
    [ ${#survivors[@]} = 0 ] || mutate "$out/$room/all" "${of_room[@]}" "${survivors[@]}"
done

cat /dev/null "$out"/*/all/mutants.out/missed.txt 2>/dev/null || true
tried=$(($(count first caught) + $(count first timeout) + $(count first missed)))
echo "$(count all missed) of $tried mutants survive, $(($(count first timeout) + $(count all timeout))) ended by" \
    "their time limit; $(count first unviable) more do not compile"
