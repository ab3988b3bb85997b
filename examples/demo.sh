#!/bin/sh
# kpipe's main job in a few seconds, on the embedded broker: lines -> topic -> another topic, transformed and traced.
# Needs kpipe on PATH and nothing else; `make demo` sees to that. Fails if any step does not do what it says.
set -eu

if [ "${KPIPE_DEMO:-}" != inside ]; then
  exec kpipe broker --topics orders:1,large:1,copy:1 -- env KPIPE_DEMO=inside sh "$0"
fi

bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$(printf '\033[1m') plain=$(printf '\033[0m'); fi

step() { printf '\n%s# %s%s\n' "$bold" "$1" "$plain"; }

run() { # print a command line, then run it; its output is kept in $output and shown
  printf '$ %s\n' "$1"
  output=$(eval "$1")
  [ -z "$output" ] || printf '%s\n' "$output"
}

expect() { # what, wanted, found
  if [ "$2" != "$3" ]; then
    printf 'demo: %s: expected %s, found %s\n' "$1" "$2" "$3" >&2
    exit 1
  fi
}

step "Lines become records: what stands before the first ':' is the key"
run "printf 'ada:{\"amount\":12}\\nbob:{\"amount\":700}\\nada:{\"amount\":950}\\n' | kpipe produce -K : orders"
run "kpipe consume -e -K ' => ' orders"
expect "records in orders" 3 "$(printf '%s\n' "$output" | wc -l | tr -d ' ')"

step "Forward some of them, changed: only large amounts, with a header"
run "kpipe forward -e -v --filter '.amount > 100' --set-header team=fraud orders large 2>&1"

step "What arrived"
run "kpipe consume -e -f '%k %s\\n' large"
expect "records in large" 2 "$(printf '%s\n' "$output" | wc -l | tr -d ' ')"

step "The same as envelopes: nothing lost, and each record says where it came from"
run "kpipe consume -e -c 1 -J large"
case $output in
  *'["team","fraud"]'*'["source_topic","orders"]'*'["source_offset","1"]'*) ;;
  *) expect "trace headers" "source_topic and source_offset" "none" ;;
esac

step "Envelopes move a topic through any pipe, byte for byte"
run "kpipe consume -e -J large | kpipe produce --input json --trace none copy"
expect "the copy" "$(kpipe consume -e -f '%k %s %h\n' large | cksum)" "$(kpipe consume -e -f '%k %s %h\n' copy | cksum)"
printf 'the same keys, values and headers\n'

printf '\n%sDone.%s The broker was in memory and is gone. Next: kpipe --help, or the README.\n' "$bold" "$plain"
