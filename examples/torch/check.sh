#!/usr/bin/env bash
# Builds the wheel and tries it as a user gets it: in fresh virtual environments, one for each version of PyTorch named, or
# the oldest that is promised and the current one. Takes a package index, a Python from 3.10 on, and some 12 GB of disk for
# PyTorch with what it brings; no GPU.
#
#     examples/torch/check.sh                 2.4.1, and the newest
#     examples/torch/check.sh 2.6.0
set -euo pipefail
cd "$(dirname "$0")"

versions=("$@")
[ ${#versions[@]} -gt 0 ] || versions=(2.4.1 newest)

out=${CARGO_TARGET_DIR:-$PWD/../../target}/torch
export CARGO_TARGET_DIR=$out/build
python=${PYTHON:-python3}
mkdir -p "$out"

cargo fmt --check
cargo clippy --locked --all-targets -- -D warnings
cargo test --locked

# Zig's linker, so that the wheel works with an older C library than this machine's.
[ -x "$out/tools/bin/maturin" ] || "$python" -m venv "$out/tools"
"$out/tools/bin/pip" install --quiet 'maturin>=1.8,<2' ziglang ruff mypy
rm -rf "$out/wheel"
PATH=$out/tools/bin:$PATH "$out/tools/bin/maturin" build --release --locked --zig --compatibility manylinux2014 --out "$out/wheel"
"$out/tools/bin/ruff" format --check python tests benches
"$out/tools/bin/ruff" check python tests benches

for version in "${versions[@]}"; do
    torch="torch==$version"
    [ "$version" != newest ] || torch=torch
    rm -rf "$out/venv"
    "$python" -m venv "$out/venv"
    "$out/venv/bin/pip" install --quiet --no-cache-dir "$torch" "$(echo "$out"/wheel/*.whl)[test]"
    "$out/tools/bin/mypy" --python-executable "$out/venv/bin/python"
    began=$SECONDS
    (cd tests && "$out/venv/bin/python" -m pytest -c ../pyproject.toml --rootdir .. .)
    echo "$torch: tests took $((SECONDS - began)) s" >&2
done
rm -rf "$out/venv"
