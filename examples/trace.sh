#!/usr/bin/env bash
# See which system calls a program makes, and which of them uvm refuses.
set -euo pipefail
uvm=${UVM:-cargo run --release --quiet --}

trace=$(mktemp)
trap 'rm -f "$trace"' EXIT
$uvm run --trace="$trace" / -- ls / >/dev/null
grep -E 'execve|openat' "$trace" | head -n 5
tail -n 3 "$trace"
