#!/usr/bin/env bash
# Runs a command with the simulated driver in the place of a CUDA toolkit and of a GPU:
#
#     ./simulated.sh cargo test
set -euo pipefail
folder=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$folder/../../target/rust-cuda}

cargo build --quiet --locked --manifest-path "$folder/../driver/Cargo.toml" --target-dir "$target"
mkdir -p "$target/toolkit/lib64"
ln -sf "$target/debug/libadaloss_driver.so" "$target/toolkit/lib64/libcuda.so"
export CARGO_TARGET_DIR=$target CUDA_LIBRARY_PATH=$target/toolkit
export LD_LIBRARY_PATH=$target/toolkit/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
exec "$@"
