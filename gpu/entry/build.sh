#!/usr/bin/env bash
# Builds the kernels' PTX for an architecture, sm_80 where none is named, and prints it:
#
#     gpu/entry/build.sh sm_90a >kernels.ptx
#
# With Debian's compiler (rustc-web, cargo-web, rust-web-src), whose version the committed PTX is of; or with another
# one that RUSTC and CARGO name, which needs the sources of core beside it:
#
#     RUSTC=$(rustup which --toolchain nightly rustc) CARGO=$(rustup which --toolchain nightly cargo) gpu/entry/build.sh
#
# One object is all there is, so that nothing has to be linked.
set -euo pipefail
cd "$(dirname "$0")"

architecture=${1:-sm_80}
export RUSTC=${RUSTC:-/usr/bin/rustc} RUSTC_BOOTSTRAP=1
cargo=${CARGO:-/usr/bin/cargo}
for program in "$RUSTC" "$cargo"; do
    command -v "$program" >/dev/null ||
        { echo "no $program: apt-get install rustc-web cargo-web rust-web-src" >&2 && exit 1; }
done
export CARGO_TARGET_DIR=${PTX_TARGET_DIR:-$PWD/../../target/ptx}/$architecture
export CARGO_TARGET_NVPTX64_NVIDIA_CUDA_LINKER=true
# Jump threading, of rustc and of LLVM, leads threads around conditions that they have tested before, and so parts them in
# front of barriers and shuffles (rust-lang/rust#137086). It is off as far as there are options for it; LLVM still does it where
# nothing stands between two tests, so that adaloss-audit looks at the result. It follows branches to labels, not to
# tables of them, of which there are none, and no function is called: whatever a kernel does is inlined.
export RUSTFLAGS="-Ctarget-cpu=$architecture -Zmir-enable-passes=-JumpThreading -Cllvm-args=-simplifycfg-max-small-block-size=0 -Cllvm-args=-min-jump-table-entries=1000 -Cllvm-args=-inline-threshold=10000"
unset CARGO_ENCODED_RUSTFLAGS RUSTUP_TOOLCHAIN
"$cargo" rustc --quiet --profile ptx --locked -Zbuild-std=core --target nvptx64-nvidia-cuda -- --emit=asm
# What is left of Rust's names depends on where the sources lie. A product's sums take half the registers there are; two
# blocks of it are to fit on a multiprocessor, three of a matrix product with slim tiles, which Rust has no attribute for.
sed -E 's/Cs[0-9A-Za-z]{8,14}_/Cs_/g; s/anon_\$_[0-9a-f]{32}/anon/g
    /^\.visible \.entry adaloss_(matmul|implicit)/,/^\)/s/^\)/)\n.maxntid 128, 1, 1\n.minnctapersm 2/
    /^\.visible \.entry adaloss_matmul_slim/,/^\)/s/minnctapersm 2/minnctapersm 3/' \
    "$CARGO_TARGET_DIR"/nvptx64-nvidia-cuda/ptx/deps/adaloss_kernels_ptx.s
