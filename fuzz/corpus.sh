#!/usr/bin/env bash
# Takes the inputs of targets out of their packs, and puts them back:
#
#     fuzz/corpus.sh unpack apply           corpus/apply.tar into corpus/apply/, where cargo-fuzz looks for them
#     fuzz/corpus.sh pack apply             corpus/apply/ into corpus/apply.tar
#     fuzz/corpus.sh unpack                 every target's
#
# An input is named by the SHA-1 of its bytes, as libFuzzer names what it finds; what has another name is renamed. The
# same inputs always make the same pack: what tar would write down besides, owners and times, is fixed. Needs GNU tar.
set -euo pipefail
cd "$(dirname "$0")"

unpack() {
    [ -f corpus/"$1".tar ] || { echo "there is no pack corpus/$1.tar: is $1 a target?" >&2 && exit 1; }
    mkdir -p corpus/"$1"
    tar --extract --file=corpus/"$1".tar --directory=corpus/"$1"
}

pack() {
    (
        cd corpus/"$1" 2>/dev/null && compgen -G '*' >/dev/null ||
            { echo "there are no inputs in corpus/$1/: fuzz/corpus.sh unpack $1" >&2 && exit 1; }
        sha1sum -- * | while read -r name file; do
            [ "$name" = "$file" ] || mv -- "$file" "$name"
        done
        export LC_ALL=C
        tar --create --format=ustar --blocking-factor=1 --mtime=@0 --mode=0644 --owner=0 --group=0 --numeric-owner -- * >../"$1".tar.new
    )
    mv corpus/"$1".tar.new corpus/"$1".tar
}

word=${1:-}
targets=("${@:2}")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(basename -s .rs fuzz_targets/*.rs)
case $word in
    unpack | pack) for target in "${targets[@]}"; do "$word" "$target"; done ;;
    *) sed -n '2,9s/^# \{0,1\}//p' corpus.sh >&2 && exit 2 ;;
esac
