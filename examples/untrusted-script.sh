#!/usr/bin/env bash
# Run a script you do not trust on a throw-away view of this machine: it is root there and may change anything, writes nothing
# here, sees none of the secrets that `uvm do --list-hidden` lists, and is ended after ten seconds. What it changed is shown.
set -euo pipefail
uvm=${UVM:-cargo run --release --quiet --}

script=$(mktemp)
trap 'rm -f "$script"' EXIT
cat >"$script" <<'end'
echo "I am $(id -un) on $(hostname)"
rm -rf /etc/passwd /usr/share/doc
ls /etc/passwd 2>&1 || echo "and I have removed /etc/passwd"
end

$uvm do --user root --timeout 10 --diff -- sh "$script"
test -e /etc/passwd && echo "here it is still there"
