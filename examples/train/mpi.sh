#!/usr/bin/env bash
# Trains over MPI: the same bits on any number of ranks, and what is said and lost where one of them fails. $MPICC and $MPIRUN
# may name another MPI, as for hal/mpi/check.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."

mpicc=${MPICC:-mpicc} mpirun=${MPIRUN:-mpirun}
for program in "$mpicc" "$mpirun" timeout pgrep; do
    command -v "$program" >/dev/null || { echo "this needs $program: see hal/mpi/check.sh" >&2 && exit 1; }
done
export MPICC=$mpicc
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/$(basename "$mpicc")
options=()
if "$mpirun" --version 2>&1 | grep -q "Open MPI"; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    options=(--oversubscribe)
fi

cargo clippy -p adaloss-train --features mpi --all-targets --locked -- -D warnings
cargo build --release -p adaloss-train --features mpi --locked
program=$CARGO_TARGET_DIR/release/adaloss-train

work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
out=$work/out
# A network that trains in seconds, in four micro-batches a step.
task=(train --micro-batches 4 --threads 1 --task)
fail() { echo "$1" && cat "$out" && exit 1; }
# Trains on so many ranks; nothing may take as long as two minutes.
ranks() { timeout -k 5 120 "$mpirun" "${options[@]}" -n "$1" "$program" "${task[@]}" "${@:2}" >"$out" 2>&1; }
# The same, and it has to fail: not by hanging, with one error, which says this.
fails() {
    local expected=$1 code=0
    shift
    ranks "$@" || code=$?
    [ "$code" != 0 ] && [ "$code" != 124 ] || fail "$* ended with $code"
    grep -qF -- "$expected" "$out" || fail "$*: nobody said \"$expected\""
    ! grep -q "panicked" "$out" || fail "$*: a rank panicked"
    [ "$(grep -c "^error:" "$out")" = 1 ] || fail "$*: not one rank said so"
    grep -m 1 "error:" "$out"
}

for network in "digits-mlp --epochs 2" "digits-resnet --until 6" "digits-mlp --epochs 1 --reduce e5m2:measured"; do
    read -ra more <<<"$network"
    for ranks in 1 2 4; do
        ranks "$ranks" "${more[@]}" --save "$work/$ranks" || fail "$network on $ranks ranks failed"
    done
    case $network in
        *reduce*) tail -n 1 "$out" ;;
        *)
            "$program" "${task[@]}" "${more[@]}" --save "$work/alone" >/dev/null
            for ranks in 1 2 4; do
                cmp "$work/alone" "$work/$ranks" || fail "$network: other bits on $ranks ranks"
            done
            echo "$network: 1, 2 and 4 ranks have the same bits"
            ;;
    esac
done

# On with fewer and more ranks.
ranks 4 digits-mlp --epochs 2 --save "$work/straight" || fail "4 ranks failed"
ranks 4 digits-mlp --epochs 2 --until 20 --save "$work/half" || fail "4 ranks failed"
for ranks in 1 2 4; do
    ranks "$ranks" digits-mlp --epochs 2 --resume "$work/half" --save "$work/resumed" || fail "resuming failed"
    cmp "$work/straight" "$work/resumed" || fail "on $ranks ranks it went on to something else"
done
echo "a checkpoint of 4 ranks goes on with 1, 2 and 4, to the same bits"

# Bad input is said once, with its rank where it is one's own, and ends all.
fails "cannot be shared by 3 ranks" 3 digits-mlp --epochs 1
fails "several ranks cannot share it" 4 digits-mlp --epochs 1 --method normal
fails "unknown format" 4 digits-mlp --epochs 1 --reduce f33
fails "No space left" 4 digits-mlp --epochs 1 --save /dev/full
fails "cannot be read" 4 digits-mlp --epochs 1 --resume "$work/none"
fails "leave --ranks out" 4 digits-mlp --epochs 1 --ranks 2
# What one rank alone is given.
cat >"$work/odd" <<'ODD'
#!/usr/bin/env bash
# Starts rank 2 with other arguments.
program=$1 odd=$2
shift 2
rank=${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-}}
if [ "$rank" = 2 ]; then exec "$program" "$@" $odd; else exec "$program" "$@"; fi
ODD
chmod +x "$work/odd"
odd() {
    local expected=$1 given=$2 code=0
    timeout -k 5 120 "$mpirun" "${options[@]}" -n 4 "$work/odd" "$program" "$given" "${task[@]}" digits-mlp --epochs 1 >"$out" 2>&1 || code=$?
    [ "$code" != 0 ] && [ "$code" != 124 ] || fail "$given on rank 2 ended with $code"
    grep -qF -- "$expected" "$out" || fail "$given on rank 2: nobody said \"$expected\""
    [ "$(grep -c "error:" "$out")" = 1 ] || fail "$given on rank 2: not one rank said so"
    echo "$given on rank 2: $(grep -m 1 "error:" "$out")"
}
odd "rank 2 has another run than rank 0" "--seed 1"
odd "rank 2 has another run than rank 0" "--format e5m2"
odd "rank 2 has another run than rank 0" "--method amax"
odd "rank 2: " "--cifar /nowhere"
odd "rank 2: " "--threads 0"
odd "rank 2: " "--device portable --format e5m2"
odd "rank 2: mpirun started 4 ranks" "--ranks 2"
# What decides what ranks ask of each other, and when.
odd "rank 2 has another plan than rank 0" "--bucket 1"
odd "rank 2 has another plan than rank 0" "--until 5"
odd "rank 2 has another plan than rank 0" "--save $work/own"
odd "rank 2 has another plan than rank 0" "--resume $work/half"
odd "rank 2: error: unexpected argument" "--nothing"

# A rank that is killed, or stops answering, while all train; and an interrupt. Long enough to be met on the way.
endless=(digits-mlp --epochs 100000 --save "$work/kept" --save-every 20)
meets() {
    local signal=$1 code=0 began
    rm -f "$work/kept"
    ranks 4 "${endless[@]}" --deadline 3 &
    job=$!
    for _ in $(seq 600); do [ -e "$work/kept" ] && break || sleep 0.1; done
    [ -e "$work/kept" ] || fail "no checkpoint was written"
    # The first rank writes what is left; one that is not it is met.
    victim=$(pgrep -f "^$program" | while read -r pid; do
        if tr '\0' '\n' <"/proc/$pid/environ" | grep -qxE '(OMPI_COMM_WORLD_RANK|PMI_RANK)=2'; then echo "$pid"; fi
    done)
    began=$SECONDS
    kill "-$signal" "$victim"
    wait "$job" || code=$?
    took=$((SECONDS - began))
    kill -KILL "$victim" 2>/dev/null || true
    [ "$code" != 0 ] && [ "$code" != 124 ] || fail "$signal: the job ended with $code"
    said=$(grep -m 1 "error:" "$out" || echo "mpirun says: $(grep -m 1 -i "signal\|bad termination" "$out" || true)")
    # What is left can be gone on from.
    until=$(($("$program" "${task[@]}" "${endless[@]:0:3}" --resume "$work/kept" --until 1 2>/dev/null | sed -n 's/ steps, .*//p') + 1))
    ranks 2 "${endless[@]:0:3}" --resume "$work/kept" --until "$until" || fail "$signal: what is left is no checkpoint"
    kept=$((until - 1))
}
for signal in KILL STOP TERM; do
    meets "$signal"
    echo "rank 2 gets $signal: the job ended after $took s and goes on from step $kept; $said"
    case $signal in
        STOP) [[ $said == *"rank 2 did not come before the deadline"* ]] || fail "nobody named rank 2" ;;
        TERM) [[ $said == *"interrupted"* ]] || fail "nobody said that it was interrupted" ;;
    esac
done
