#!/usr/bin/env bash
# Is the committed PTX that of the sources, and does it assemble into what it is meant to?
#
#     gpu/ptx.sh            builds, compares, assembles
#     gpu/ptx.sh --bless    builds, writes what is to be committed
#
# For each architecture: the text is the same; no function is called and none panics; no barrier, and nothing that a warp does
# together, is in reach of some threads only, in the text and in the machine code of every GPU that takes it; and each entry has
# the synchronising instructions and parameters that ptx/<architecture>.entries lists. On no GPU a register is spilled, and
# registers, memory, resident blocks and instructions are those of ptx/machine.csv; and what is shipped in ptx/*.cubin is what
# was assembled.
# Needs what entry/build.sh needs, and python3 with pip, from whose index ptxas and nvdisasm come where PTXAS and
# NVDISASM do not name them.
set -euo pipefail
cd "$(dirname "$0")"

architectures=(sm_80 sm_90a)
# GPUs that compile each text for themselves.
declare -A takers=([sm_80]="sm_80 sm_89 sm_100a sm_120" [sm_90a]=sm_90a)
cargo build --quiet --release --locked -p adaloss-audit
audit=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/adaloss-audit
packages=(nvidia-cuda-nvcc-cu12==12.9.86 nvidia-cuda-nvdisasm==13.5.37)
if [ -z "${PTXAS:-}" ] || [ -z "${NVDISASM:-}" ]; then
    tools=../target/ptx/tools
    [ -x $tools/bin/python ] || python3 -m venv $tools
    $tools/bin/pip install --quiet --disable-pip-version-check "${packages[@]}"
    PTXAS=$(echo $tools/lib/python*/site-packages/nvidia/cuda_nvcc/bin/ptxas)
    NVDISASM=$(echo $tools/lib/python*/site-packages/nvidia/cu13/bin/nvdisasm)
fi

work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
wrong=0
fail() {
    echo "$@" >&2
    wrong=1
}

# Lists each entry of a text: its synchronising instructions and its parameters.
entries() {
    "$audit" counts "$1" | while read -r entry counts; do
        parameters=$(sed -n "/^\.visible \.entry $entry(/,/^)/s/.*\.param \(\.align [0-9]* \)\{0,1\}\(\.[a-z0-9]*\)[^[]*\(\[[0-9]*\]\)\{0,1\}.*/\2\3/p" "$1" | paste -sd ,)
        echo "$entry $counts parameters=$parameters"
    done | sort
}

# GPUs whose machine code is shipped beside the text.
shipped=(sm_80 sm_89 sm_90a)

# Assembles a text for a GPU and disassembles it.
assemble() {
    "$PTXAS" -v -arch="$2" "$1.ptx" -o "$1.$2.cubin" 2>"$1.$2.log" || { cat "$1.$2.log" >&2 && exit 1; }
    "$NVDISASM" -c "$1.$2.cubin" >"$1.$2.sass" 2>"$1.$2.notes" || { cat "$1.$2.notes" >&2 && exit 1; }
}

machine=$work/machine.csv
echo entry,gpu,registers,shared_bytes,stack_bytes,spilled_bytes,resident_blocks,instructions,tensor,calls >"$machine"
for architecture in "${architectures[@]}"; do
    built=$work/$architecture
    entry/build.sh "$architecture" >"$built.ptx"
    "$audit" ptx "$built.ptx" || wrong=1
    for taker in ${takers[$architecture]}; do
        assemble "$built" "$taker"
        cp "$built.$taker.cubin" "$work/$taker.cubin"
        "$audit" sass "$built.$taker.sass" || wrong=1
        "$audit" machine "$taker" "$built.$taker.log" "$built.$taker.sass" >>"$machine" || wrong=1
    done
    entries "$built.ptx" >"$built.entries"
    grep -qE '^\.(visible |extern )?\.?func' "$built.ptx" && fail "$architecture: a function is called"
    grep -q 'panic' "$built.ptx" && fail "$architecture: something can panic"
    echo "$architecture: $(wc -l <"$built.entries") entries, $(wc -c <"$built.ptx") bytes"
done

for file in "${architectures[@]/%/.ptx}" "${architectures[@]/%/.entries}" machine.csv "${shipped[@]/%/.cubin}"; do
    if [ "${1:-}" = --bless ]; then
        cp "$work/$file" ptx/
    else
        diff "ptx/$file" "$work/$file" >"$work/diff" ||
            { head -n 20 "$work/diff" >&2 && fail "ptx/$file is not that of the sources: gpu/ptx.sh --bless"; }
    fi
done
exit $wrong
