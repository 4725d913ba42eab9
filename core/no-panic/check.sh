#!/usr/bin/env bash
# Links every entry point of this crate alone, without what it does not reach; see src/lib.rs.
# Prints the entries from which a panic, or anything outside core, can be reached, and where.
# Arguments are cargo's, such as --target; $CARGO and $RUSTC may name another compiler.
set -euo pipefail
cd "$(dirname "$0")"

folder=../../target/panics
target=
for ((i = 1; i < $#; i++)); do
    [ "${!i}" != --target ] || { next=$((i + 1)) && target=${!next}; }
done
library=$folder/$target/no-panic/libadaloss_no_panic.a
host=$(rustc -vV | sed -n 's/^host: //p')
linker=$(rustc --print sysroot)/lib/rustlib/$host/bin/rust-lld
[ -x "$linker" ] || { echo "the linker that comes with a rustup toolchain is missing: $linker" >&2 && exit 1; }
out=$(mktemp -d)
trap 'rm -r "$out"' EXIT

"${CARGO:-cargo}" build --profile no-panic --locked --target-dir "$folder" "$@"

# Every compiler may call these, which move and compare memory; core may call nothing else.
given=()
for function in memcpy memmove memset memcmp bcmp; do
    given+=("--defsym=$function=0")
done

link() {
    "$linker" -flavor gnu --gc-sections --entry="$1" --undefined="$1" "${given[@]}" "${@:2}" "$library"
}

# Where an entry calls what ends in a panic: of what is inlined there, the innermost that is not Rust's own.
places() {
    link "$1" --defsym=adaloss_core_can_panic=0 -o "$out/panics" 2>/dev/null &&
        "${OBJDUMP:-objdump}" -d "$out/panics" 2>/dev/null |
        awk '/(call|jmp|bl|b\.w).*<.*(panic|fail|unwrap|expect).*>/ { sub(":", "", $1); print $1 }' |
            addr2line -ae "$out/panics" -Ci |
            awk '/^0x/ { wanted = 1 } /^\// && !/rustc|rustlib/ && wanted { print "    " $1; wanted = 0 }' | sort -u
}

entries=0 failed=0 planted=0 missed=0
for entry in $(nm --defined-only "$library" 2>/dev/null | sed -n 's/^[0-9a-f]* [DR] \([a-z]*::.*\)/\1/p'); do
    reached='' is_linked=yes
    # The linker may warn, of a call of memcmp at 0, say; what it cannot link it refuses.
    link "$entry" -o "$out/linked" 2>"$out/errors" || {
        is_linked=no
        reached=$(sed -n 's/.*undefined symbol: //p' "$out/errors" | sort -u | paste -sd ' ')
    }
    case $entry in
        planted::*)
            planted=$((planted + 1))
            [ "$reached" = adaloss_core_can_panic ] || { echo "$entry was not found" && missed=$((missed + 1)); }
            ;;
        *)
            entries=$((entries + 1))
            [ "$is_linked" = no ] || continue
            failed=$((failed + 1))
            echo "$entry reaches $reached"
            places "$entry" || true
            ;;
    esac
done
echo "${target:-$host}: $failed of $entries entries can panic; $((planted - missed)) of $planted planted panics were found"
expected=$(cat src/*.rs | grep -c '"planted::')
[ "$failed" = 0 ] && [ "$missed" = 0 ] && [ "$planted" = "$expected" ] && [ "$entries" -gt "$planted" ]
