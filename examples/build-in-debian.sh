#!/usr/bin/env bash
# Build and test a C project in a Debian root file system, with the sources shown read-only and only the result kept.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
uvm=${UVM:-cargo run --release --quiet --}

rootfs=$(tests/rootfs/make) # any directory made by `debootstrap --include=gcc,libc6-dev,make` will do
result=$(mktemp -d)
trap 'rm -rf "$result"' EXIT

$uvm run -v "$PWD/tests/rootfs/project:/source:ro" -v "$result:/result" -w /source "$rootfs" -- \
    make -j2 BUILD=/result all check
file "$result/tally" 2>/dev/null || ls -l "$result/tally"
