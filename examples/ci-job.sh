#!/usr/bin/env bash
# A CI job: build and test a C and a Python project, each in a fresh guest that sees its sources read-only and can write to one
# directory of artifacts alone. No guest has a network, sees another, or lives longer than its time limit.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
uvm=${UVM:-cargo run --release --quiet --}

rootfs=$(tests/rootfs/make) # any directory or image with gcc, make and python3 will do
artifacts=${ARTIFACTS:-$(mktemp -d)}
[ -n "${ARTIFACTS:-}" ] || trap 'rm -rf "$artifacts"' EXIT
failed=0

# job NAME SOURCES SCRIPT: run the script in a copy of the sources; it leaves what is to be kept in /artifacts.
job() {
    local name=$1 sources=$2 script=$3 out=$artifacts/$1
    mkdir -p "$out"
    if $uvm run --timeout 300 --hostname "$name" --tmpfs /build -w /build \
        -v "$sources:/sources:ro" -v "$out:/artifacts" "$rootfs" -- \
        sh -euc "cp -r /sources/. .; $script" >"$out/log" 2>&1; then
        echo "$name: passed; $(ls "$out" | xargs)"
    else
        echo "$name: failed with status $?; the end of its log:" >&2
        tail -n 20 "$out/log" >&2
        failed=1
    fi
}

job tally "$PWD/tests/rootfs/project" '
    make -j2 all check
    cp build/tally /artifacts'
job wordcount "$PWD/examples/ci-job/wordcount" '
    python3 -m unittest -v
    python3 -m zipapp -p /usr/bin/python3 -o /artifacts/wordcount.pyz .
    echo "one two two" | python3 /artifacts/wordcount.pyz'

exit "$failed"
