#!/usr/bin/env bash
# Does a test fail for every change to core? Takes files below core/src, all of them where none is named, and
# options of cargo mutants:
#
#     .ci/mutants.sh                             every mutant: some hours of two cores
#     .ci/mutants.sh --shard 0/16                one in sixteen of each room
#     .ci/mutants.sh core/src/unscale.rs         those of a file
#
# A mutant meets the quick tests of its room first; only those that survive them meet all tests of core.
# Prints the mutants that survive those too, and how many there were. The mutants that change nothing are in
# .cargo/mutants.toml, each with the reason. Needs cargo-mutants.
set -euo pipefail
cd "$(dirname "$0")/.."

# Tests that take from a third of a second to some seconds for each mutant.
slow=(
    a_dense_sweep_of_f32_against_apfloat
    a_join_is_near_the_exact_sum_in_any_order
    a_long_slice_is_its_elements_in_every_narrowing
    a_sweep_of_f32_under_every_narrowing
    an_adversary
    any_past_comes_back
    around_every_number_of_every_small_format
    categories_are_those_of_the_reference
    certificates_say_what_a_search_finds
    counts_are_exact_at_every_legal_scale
    counts_are_exact_at_every_scale
    every_binary16_number_at_every_scale
    every_pattern_widens_to_what_apfloat_decodes
    every_shift_under_every_narrowing
    exactly_the_discarded_fraction_of_words_rounds_up
    least_scale_by_mass_is_that_of_a_search
    lost_mass_is_an_upper_bound
    no_damage_passes
    no_sequence_of_tensors_breaks_a_promise
    shifts_are_where_narrow_underflows_and_overflows
    stochastic_counts_are_tight_bounds
)

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
    tests=("--cargo-arg=--test=$room")
    # What the authors' code returned holds the paper's policies.
    [ "$room" != policy ] || tests+=(--cargo-arg=--test=golden)
    # The straight-line narrowing of whole tensors is met where they are narrowed.
    [ "$room" != format ] || tests+=(--cargo-arg=--test=apply)
    mutate "$out/$room/first" "${of_room[@]}" "${tests[@]}" "${options[@]}" -- -- "${slow[@]/#/--skip=}"

    # Each survivor by its whole name, as an expression that matches nothing else; and their files alone:
    # cargo-mutants 27.1 deletes fields in all files that it is given, whatever the names.
    missed=$out/$room/first/mutants.out/missed.txt
    mapfile -t survivors < <(sed -e 's/[][\\.+*?(){}|^$]/\\&/g' -e 's/.*/--re=^&$/' "$missed")
    mapfile -t their_files < <(sed -e 's/:.*//' -e 's/^/--file=/' "$missed" | sort -u)
    [ ${#survivors[@]} = 0 ] || mutate "$out/$room/all" "${their_files[@]}" "${survivors[@]}"
done

cat /dev/null "$out"/*/all/mutants.out/missed.txt 2>/dev/null || true
tried=$(($(count first caught) + $(count first timeout) + $(count first missed)))
echo "$(count all missed) of $tried mutants survive, $(($(count first timeout) + $(count all timeout))) ended by" \
    "their time limit; $(count first unviable) more do not compile"
