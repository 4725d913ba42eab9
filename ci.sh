#!/usr/bin/env bash
# The CI, word by word: ./ci.sh fmt clippy test ...   Without a word: the usual ones, at the end of this file.
# Each word fails when what it needs is missing; nothing is skipped.
set -euo pipefail
cd "$(dirname "$0")"

fmt() { cargo fmt --all --check; }

# With every feature but the trainer's ranks over MPI, which the word mpi has.
clippy() { cargo clippy --workspace --all-targets --features adaloss-hal/alloc,adaloss-kernels/grid,adaloss-train/cuda --locked -- -D warnings; }

test() { cargo test --workspace --locked; }

doc() { RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked; }

# Runs a command that takes cargo's arguments for a microcontroller that has not even an FPU. With rustup's
# target if it is there, else from the sources of Debian's rust-web-src with the compiler they belong to.
microcontroller() {
    local target=thumbv6m-none-eabi
    if rustup target list --installed 2>/dev/null | grep -qx "$target"; then
        CARGO=cargo "$@" --target "$target"
    elif [ -x /usr/bin/cargo ] && compgen -G '/usr/src/rustc-*/library/core' >/dev/null; then
        RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc CARGO=/usr/bin/cargo CARGO_TARGET_DIR=target/no_std \
            "$@" --target "$target" -Zbuild-std=core
    else
        echo "${FUNCNAME[1]} needs the target $target: rustup target add $target," \
            "or apt-get install rustc-web cargo-web rust-web-src" >&2
        return 1
    fi
}

# Core, HAL and the C library without std.
no_std() { microcontroller run_cargo check --locked -p adaloss-core -p adaloss-hal -p adaloss-conformance -p adaloss-capi --lib; }

run_cargo() { "$CARGO" "$@"; }

# No public function of core can panic in a release build, on this machine and on a microcontroller.
panics() {
    core/no-panic/check.sh
    microcontroller core/no-panic/check.sh
}

# Tests that are not run, with their reasons; an ignored test is not a passed one.
ignored() {
    local unexplained
    git grep -nE '#\[ignore' -- '*.rs' || echo "no test is ignored"
    unexplained=$(git grep -nE '#\[ignore\]' -- '*.rs' || true)
    [ -z "$unexplained" ]
}

# The main job, small, from the command line that the README names.
compare() {
    local out
    out=$(mktemp -d)
    cargo run --release --locked -p adaloss-train -- compare --epochs 1 --seeds 2 --out "$out/report"
    rm -r "$out"
}

# The fuzz targets for libFuzzer compile; what they do, the tests do too.
fuzz() {
    RUSTFLAGS="--cfg fuzzing -D warnings" cargo check --locked -p adaloss-fuzz-targets
}

# Conversions, with every f32 there is and every 8- and 16-bit number at every scale: an hour or two of two
# cores, and only by name.
exhaustive() { cargo run --release --locked -p adaloss-exhaustive; }

# One of so many slices of that, 40 seconds of two cores: another one every day.  It is printed, and --slice
# repeats it.
exhaustive_slice() {
    local slices=127
    local slice=$(($(date +%s) / 86400 % slices + 1))/$slices
    cargo run --release --locked -p adaloss-exhaustive -- --slice "$slice"
}

# One step of the largest network that has a recipe, SSD512: only by name.
largest() { cargo test --locked -p adaloss-train --test train -- --ignored the_largest_network; }

# The firmware examples, a workspace of their own: three boards in QEMU print what the host prints, and no feature has
# outgrown what is promised of its size. A test that is ignored for want of a tool fails here.
firmware() {
    local folder=examples/firmware program
    for program in qemu-system-arm qemu-system-riscv32 arm-none-eabi-gcc riscv64-unknown-elf-gcc readelf nm; do
        command -v "$program" >/dev/null || { echo "firmware needs $program" >&2 && return 1; }
    done
    (
        export CARGO_TARGET_DIR=$PWD/target/firmware
        cd "$folder"
        cargo fmt --all --check
        cargo clippy --all-targets --locked -- -D warnings
        cargo test --locked
        ./sizes.sh
    )
}

# The committed PTX is that of the kernels, calls nothing, spills nothing, parts no threads in front of a barrier, and has
# the registers and parameters that are written down; and a mistake that is planted in a kernel is found in what it is
# compiled to. No GPU is needed, but Debian's compiler for that target, and pip.
ptx() {
    gpu/ptx.sh
    gpu/planted.sh
}

# The shipped text of the kernels, executed: all of the suite and a trial of the on-device program, for both architectures. The
# usual tests do a part of it.
text() {
    cargo test --release --locked -p adaloss-gpu --test simulated text:: -- --include-ignored --nocapture
    cargo test --release --locked -p adaloss-on-device --test simulated shipped -- --ignored
}

# What stands on crates of Rust-CUDA's, a workspace of its own: the adapter for cust, which is linked with libcuda, here with
# the simulated driver; and the entry points over cuda_std, which compile on a host. What Rust-CUDA's compiler makes of them,
# which this does not need, gpu/README.md says.
rust_cuda() {
    local manifest=gpu/rust-cuda/Cargo.toml
    local -x CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/rust-cuda}
    cargo fmt --manifest-path "$manifest" -p adaloss-rust-cuda -p adaloss-cust --check
    gpu/cust/simulated.sh cargo clippy --manifest-path "$manifest" --workspace --all-targets --locked -- -D warnings
    RUSTDOCFLAGS="-D warnings" gpu/cust/simulated.sh cargo doc --manifest-path "$manifest" -p adaloss-cust --no-deps --locked
    gpu/cust/simulated.sh cargo test --manifest-path "$manifest" -p adaloss-cust --locked
}

# The random faults of the trainer's tests, three times as many as the tests try: before a release.
faults() { ADALOSS_FAULTS=3 cargo test --release --locked -p adaloss-train --test train faults::random; }

# What the tests of the libraries reach, per file.
coverage() { .ci/coverage.sh; }

# Whether a test fails for every change to core: hours, and only by name.
mutants() { .ci/mutants.sh; }

# Whether the fuzz targets find mistakes that are planted in core.
planted() { fuzz/planted.sh; }

# Candle and burn with a scale per layer, a workspace of its own that brings some 340 packages: only by name. One after
# the other, since both have an example of the same name.
frameworks() {
    local manifest=examples/Cargo.toml package
    local -x CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target/frameworks}
    for package in adaloss-candle adaloss-burn; do
        local arguments=(--manifest-path "$manifest" --package "$package" --release --locked)
        cargo fmt --manifest-path "$manifest" --package "$package" --check
        cargo clippy "${arguments[@]}" --all-targets -- -D warnings
        RUSTDOCFLAGS="-D warnings" cargo doc "${arguments[@]}" --no-deps
        cargo test "${arguments[@]}"
        cargo run "${arguments[@]}" --example digits -- --epochs 1 --seeds 1
    done
}

# The Python package for PyTorch, as a wheel in fresh virtual environments with the oldest PyTorch that is promised and the
# newest: only by name, since each is some 5 GB.
torch() { examples/torch/check.sh; }

# Results and gradients of networks beside torchvision's, from the same weights: a Python environment of some 2 GB, from PyPI.
torchvision() {
    local folder status=0
    cargo build --release --locked -p adaloss-train
    folder=$(mktemp -d)
    {
        python3 -m venv "$folder" &&
            "$folder/bin/pip" install --quiet torch torchvision &&
            "$folder/bin/python" examples/train/peers/torchvision_gradients.py \
                "${CARGO_TARGET_DIR:-target}/release/adaloss-train"
    } || status=$?
    rm -rf "$folder"
    return "$status"
}

# Ranks over MPI, a workspace of its own, and the trainer with them: a few processes on this machine, with mistakes planted on one
# of them. It needs Debian's libopenmpi-dev, openmpi-bin and libclang-dev, or MPICH's packages: hal/mpi/check.sh says how to choose.
mpi() {
    local -x CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/mpi
    hal/mpi/check.sh
    examples/train/mpi.sh
}

# The words that run without being named, and those that do not.
usual=(fmt clippy doc no_std panics ignored compare fuzz exhaustive_slice test)
by_name=(ptx text rust_cuda firmware frameworks torch torchvision mpi exhaustive faults coverage mutants planted)

words=("$@")
[ ${#words[@]} -gt 0 ] || words=("${usual[@]}")
for word in "${words[@]}"; do
    if [[ " ${usual[*]} ${by_name[*]} " != *" $word "* ]]; then
        echo "unknown word \"$word\": one of ${usual[*]} ${by_name[*]}" >&2
        exit 2
    fi
    echo "== $word" >&2
    began=$SECONDS
    "$word"
    echo "== $word took $((SECONDS - began)) s" >&2
done
