#!/usr/bin/env bash
# Fuzzes targets one after the other on every core, and brings what they found home:
#
#     fuzz/campaign.sh 600                  ten minutes for every target
#     fuzz/campaign.sh 60 format policy     one minute for each of these
#
# Prints a line per target: executions and how many per second, what they covered (edges of the program, and
# features, which count how often an edge was taken too), and the inputs that cover all those edges, which replace
# the target's corpus. Needs cargo-fuzz. Ends at the first finding, which is in artifacts/. Comparisons are not
# traced: the targets read structured input, in which no magic number has to be guessed, and most of what they do is
# comparing, which tracing makes several times slower.
set -euo pipefail
cd "$(dirname "$0")"

[ $# -gt 0 ] || { sed -n '2,11s/^# \{0,1\}//p' campaign.sh >&2 && exit 2; }
seconds=$1
targets=("${@:2}")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(basename -s .rs fuzz_targets/*.rs)
export RUSTC_BOOTSTRAP=1
cores=$(nproc)

printf '%-20s %12s %10s %7s %9s %7s %7s\n' target executions 'per second' edges features inputs bytes
for target in "${targets[@]}"; do
    found=target/campaign/$target
    log=$found.log
    mkdir -p "$found" artifacts/"$target"
    ./corpus.sh unpack "$target"
    cargo fuzz build --fuzz-dir . --target-dir target -s none --no-trace-compares "$target" 2>"$log"
    program=target/$(rustc -vV | sed -n 's/^host: //p')/release/$target
    "$program" "$found" corpus/"$target" -fork="$cores" -max_total_time="$seconds" -max_len=4096 \
        -artifact_prefix=artifacts/"$target"/ >>"$log" 2>&1 || { tail -n 40 "$log" >&2 && exit 1; }

    # The fewest inputs that reach every edge; the features would keep ten times as many.
    least=$(mktemp -d)
    "$program" -set_cover_merge=1 -use_counters=0 "$least" corpus/"$target" "$found" >>"$log" 2>&1
    rm -r corpus/"$target"
    mv "$least" corpus/"$target"
    ./corpus.sh pack "$target"

    # Such as: #5120033: cov: 873 ft: 3204 corp: 412 exec/s: 17011 oom/timeout/crash: 0/0/0 time: 301s job: 20 dft_time: 0
    sed -n 's/^#\([0-9]*\): cov: \([0-9]*\) ft: \([0-9]*\) .* time: \([0-9]*\)s .*/\1 \2 \3 \4/p' "$log" | tail -n 1 |
        while read -r executions edges features took; do
            printf '%-20s %12d %10d %7d %9d %7d %7d\n' "$target" "$executions" $((executions / (took + !took))) \
                "$edges" "$features" "$(find corpus/"$target" -type f | wc -l)" \
                "$(cat corpus/"$target"/* | wc -c)"
        done
done
