#!/usr/bin/env bash
# Prints the shape of the source as a table, of one commit or of several side by side: .ci/shape.sh [COMMIT ...]
# Lines are those of src/ without tests: what stands in files and folders named tests, and behind #[cfg(test)] at the
# beginning of a line, is left out.
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- HEAD

# The files of a commit that match a pattern.
files() { git ls-tree -r --name-only "$1" | grep -E "$2" || true; }

# Lines of the sources below a folder that are no tests.
lines() {
    local file total=0 count
    while read -r file; do
        count=$(git show "$1:$file" | awk '/^#\[cfg\(test\)\]/ { exit } { n++ } END { print n + 0 }')
        total=$((total + count))
    done < <(files "$1" "^$2/src/.*\.rs$" | grep -vE '/tests(/|\.rs$)')
    echo "$total"
}

# How often a pattern stands in Rust outside tests.
places() {
    git grep -hE "$2" "$1" -- '*.rs' ':!*/tests/*' ':!*/tests.rs' | wc -l
}

crates() {
    for commit; do
        files "$commit" '(^|/)Cargo\.toml$' | while read -r manifest; do
            git show "$commit:$manifest" | grep -q '^\[package\]' && dirname "$manifest"
        done
    done | sort -u
}

row() {
    printf '| %s |' "$1"
    shift
    printf ' %s |' "$@"
    echo
}

# One row: its name, and a function that is called with each commit.
measured() {
    local name=$1 values=()
    shift
    for commit in "${commits[@]}"; do values+=("$("$@" "$commit")"); done
    row "$name" "${values[@]}"
}

crate_lines() { lines "$2" "$1"; }
tracked() { files "$1" . | wc -l; }
workspaces() {
    local manifest
    files "$1" '(^|/)Cargo\.toml$' | while read -r manifest; do
        git show "$1:$manifest" | grep '^\[workspace\]' || true
    done | wc -l
}
locks() { files "$1" '(^|/)Cargo\.lock$' | wc -l; }
manifests() { files "$1" '(^|/)Cargo\.toml$' | wc -l; }
words() { git show "$1:ci.sh" | grep -cE '^[a-z_]+\(\) \{' || true; }
format_arms() { places "$1" 'E4M3 =>'; }
policy_arms() { places "$1" 'Policy::Measured\(.*=>|Self::Measured\(.*=>'; }
length_checks() { places "$1" 'same_length\('; }

commits=("$@")
names=()
for commit in "${commits[@]}"; do names+=("$(git rev-parse --short "$commit")"); done
row "" "${names[@]}"
row "---" "${names[@]/*/--:}"
crates "${commits[@]}" | while read -r crate; do measured "lines of $crate" crate_lines "$crate"; done
measured "tracked files" tracked
measured "workspaces" workspaces
measured "lock files" locks
measured "manifests" manifests
measured "functions of ci.sh" words
measured "match arms for a format (\`E4M3 =>\`)" format_arms
measured "match arms for a policy (\`Measured(_) =>\`)" policy_arms
measured "calls of \`same_length\`" length_checks
