#!/bin/sh
# The identity tests (guest == oracle, bit for bit) compiled for arm64 and run
# under qemu's user mode, where wazero's arm64 compiler works, slowly.
set -eu
if [ "$(uname -m)" != aarch64 ] && ! command -v qemu-aarch64 >/dev/null 2>&1; then
	echo "test-arm64: skipped, qemu-aarch64 (package qemu-user) is missing"
	exit 0
fi
# The tests open libraries at run time through purego, so that they are linked to the
# system's loader.
root=/usr/aarch64-linux-gnu
if [ "$(uname -m)" != aarch64 ] && [ ! -e $root/lib/ld-linux-aarch64.so.1 ]; then
	echo "test-arm64: skipped, $root/lib/ld-linux-aarch64.so.1 (package libc6-arm64-cross) is missing"
	exit 0
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
GOARCH=arm64 ${GO:-go} test -c -o "$dir/q8.test" ./internal/q8
cd internal/q8
if [ "$(uname -m)" = aarch64 ]; then "$dir/q8.test" -test.short; else qemu-aarch64 -L $root "$dir/q8.test" -test.short; fi
