#!/usr/bin/env bash
# What the tests of core and HAL reach: lines and regions per file and per crate.
# Needs cargo-llvm-cov, and LLVM's tools from rustup or from the system in the compiler's version.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=/usr/lib/llvm-$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')/bin
if [ -x "$tools/llvm-cov" ]; then
    export LLVM_COV=$tools/llvm-cov LLVM_PROFDATA=$tools/llvm-profdata
fi
cargo llvm-cov test --locked -p adaloss-core -p adaloss-hal -p adaloss-fuzz --no-report
cargo llvm-cov report --summary-only | awk '
    # File, regions, missed, share, functions, missed, share, lines, missed, share, ...
    function share(missed, all) { return sprintf("%.1f %%", 100 * (all - missed) / all) }
    function row(name, lines, missed_lines, regions, missed_regions) {
        printf "%-40s %6d lines, %7s   %6d regions, %7s\n", name,
            lines, share(missed_lines, lines), regions, share(missed_regions, regions)
    }
    match($1, "^(core|hal)/src/") && $8 > 0 {
        row($1, $8, $9, $2, $3)
        split($1, part, "/")
        lines[part[1]] += $8; missed_lines[part[1]] += $9
        regions[part[1]] += $2; missed_regions[part[1]] += $3
    }
    END {
        for (crate in lines)
            row(crate, lines[crate], missed_lines[crate], regions[crate], missed_regions[crate])
    }'
