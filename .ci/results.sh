#!/usr/bin/env bash
# Makes a folder of docs/results anew, by the first command in its README:
#
#     .ci/results.sh usual            four minutes of two cores
#     .ci/results.sh gallery DIR      with the report in DIR, from which it goes on
#
# What the command prints goes between the README's two marks, if it has them.  Of the files that it writes, those
# replace theirs that the folder has.  Only by name: the times are of one machine.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=docs/results/$1
readme=$folder/README.md
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
report=${2:-$temporary/report}

command=$(sed -n '/^```sh$/,/^```$/{//!p}; /^```$/q' "$readme")
# The command names no folder for its report.
time bash -euo pipefail -c "$command --out $(printf '%q' "$report")" >"$temporary/printed"

# A page names its command; where the report went on this machine is nobody's business.
for file in "$folder"/*; do
    [ "$file" = "$readme" ] || sed "s| --out $report</code>|</code>|" "$report/$(basename "$file")" >"$file"
done

if grep -q '^<!-- measured:begin -->$' "$readme"; then
    {
        sed '/^<!-- measured:begin -->$/q' "$readme"
        printf '```text\n'
        # Without empty lines around it, and without the last, which names the report's folder.
        sed -e '/^The report/d' "$temporary/printed" | sed -e '/./,$!d' | sed -e :a -e '/^\n*$/{$d;N;ba' -e '}'
        printf '```\n'
        sed -n '/^<!-- measured:end -->$/,$p' "$readme"
    } >"$temporary/README.md"
    cp "$temporary/README.md" "$readme"
fi
