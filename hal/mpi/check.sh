#!/usr/bin/env bash
# Builds, checks and runs what stands on MPI, with the one that mpicc and mpirun belong to; $MPICC and $MPIRUN may name another.
set -euo pipefail
cd "$(dirname "$0")"

mpicc=${MPICC:-mpicc} mpirun=${MPIRUN:-mpirun}
for program in "$mpicc" "$mpirun" timeout; do
    command -v "$program" >/dev/null || {
        echo "mpi needs $program: apt-get install libopenmpi-dev openmpi-bin libclang-dev," \
            "or libmpich-dev and mpich, beside which MPICC=mpicc.mpich MPIRUN=mpirun.mpich choose them" >&2
        exit 1
    }
done
export MPICC=$mpicc
# Cargo does not see that another MPI is asked for: each has a folder of its own.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/$(basename "$mpicc")
# Containers and the machines of a CI have one user, and few cores.
options=()
if "$mpirun" --version 2>&1 | grep -q "Open MPI"; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    options=(--oversubscribe)
fi

cargo fmt --check
cargo clippy --all-targets --locked -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked
cargo build --release --examples --locked
cargo test --doc --locked
program=$CARGO_TARGET_DIR/release/examples/ranks

out=$(mktemp)
trap 'rm "$out"' EXIT
# Runs the ranks; nothing may take as long as a minute, whatever is planted.
run() { timeout 60 "$mpirun" "${options[@]}" -n "$1" "$program" "$2" >"$out" 2>&1; }
fail() { echo "$1" && cat "$out" && exit 1; }

for ranks in 1 2 4; do
    run "$ranks" steps || fail "$ranks ranks do not share their steps"
    [ "$(grep -c "as one scaler took them" "$out")" = "$ranks" ] || fail "not every rank said so"
    head -n 1 "$out"
done
for ranks in 2 4; do
    last=$((ranks - 1))
    for planted in bit late config cells; do
        run "$ranks" "$planted" || fail "$planted was not found on $ranks ranks"
        [ "$(grep -c "rank $last, after" "$out")" = "$ranks" ] || fail "$planted: not every rank was told"
    done
    # A rank that does not come: the others give up at their deadline, and end it.
    began=$SECONDS code=0
    run "$ranks" absent || code=$?
    [ "$code" != 0 ] && [ "$code" != 124 ] || fail "absent: the job ended with $code"
    [ "$(grep -c "rank $last did not come before the deadline" "$out")" = "$last" ] || fail "absent: not every rank gave up"
    ! grep -q "nobody ended this" "$out" || fail "absent: the last rank was left alone"
    echo "$ranks ranks: all planted mistakes are named on all ranks; one that is absent ends the job in $((SECONDS - began)) s"
    # One that ends without a word: MPI's launcher may end the job before the deadline does.
    code=0
    run "$ranks" gone || code=$?
    [ "$code" != 124 ] || fail "gone: the job hangs"
done
run 4 time || fail "nothing was measured"
cat "$out"
# What agreements cost is only tried: to measure takes a machine on which nothing else runs.
timeout 60 "$mpirun" "${options[@]}" -n 2 "$CARGO_TARGET_DIR/release/examples/cost" brief >"$out" 2>&1 || fail "cost does not end as it should"
[ "$(grep -c "a step: .* ratio" "$out")" = 4 ] || fail "cost does not say all that it measured"
