#!/bin/sh
# What everybody does with kpipe on the first day; run by another user, in a root in which only kpipe was installed.
# Usage: smoke.sh KPIPE
set -eu
kpipe=$1
export HOME
HOME=$(mktemp -d)
cd "$HOME"
check() { [ "$2" = "$3" ] || { echo "smoke: $1: expected <$3>, got <$2>" >&2; exit 1; }; }

"$kpipe" --version | grep -qE '^kpipe [0-9]+\.[0-9]+'
cat >round.sh <<ROUND
set -eu
seq 1 40 | "$kpipe" produce in
"$kpipe" forward --workers 2 -G smoke -e --filter '. % 2 == 0' in out 2>&1
"$kpipe" consume -e out | sort -n | tr '\\n' ' '
ROUND
got=$("$kpipe" broker --topics in:4,out:2 -- sh round.sh)
check "produce, forward with two workers, consume" "${got##*
}" "2 4 6 8 10 12 14 16 18 20 22 24 26 28 30 32 34 36 38 40 "
check "a jq program in a process of its own" \
  "$("$kpipe" broker --topics t:1 -- sh -c "echo 3 | \"$kpipe\" produce --map '[range(.)] | length' t; \"$kpipe\" consume -e t")" 3
"$kpipe" man forward </dev/null 2>/dev/null | cat >page
grep -qi forward page
"$kpipe" completion bash --install >/dev/null 2>&1
find "$HOME" -path '*bash-completion*' -type f | grep -q kpipe
# A unit starts what is there for every user, not what the one file has unpacked in this user's home.
"$kpipe" unit systemd -- forward -G g a b:9092/b >unit
start=$(sed -n 's/^ExecStart=\([^ ]*\).*/\1/p' unit)
[ -x "$start" ]
check "a unit starts nothing of this user's" "${start#"$HOME"}" "$start"
"$kpipe" plugins --json >/dev/null
# What a unit for Kubernetes asks of the image, and everybody of a service: numbers.
"$kpipe" broker --topics a:1,b:1 -- sh -c "echo 1 | \"$kpipe\" produce a; \"$kpipe\" forward -q -G m -e --metrics-file numbers a b"
grep -q '^kpipe_records_total{.*outcome="delivered".* 1' numbers
echo "smoke: ok: $("$kpipe" --version) from $kpipe as $(id -u)"
