#!/bin/sh
# Brings what `make demo` and `make test` want beyond Go, where it is missing and
# may be installed (root on a Debian-like system), and says plainly what stays
# missing and what that costs. Never fails: wisp works without any of it.
#
# Usage: scripts/setup.sh demo|encoder|test|web
set -u

want() { # PROGRAM-LIBRARY-OR-FILE PACKAGE WHAT-IT-COSTS
	case $1 in
	/*) [ -e "$1" ] && return ;;
	lib*) ldconfig -p 2>/dev/null | grep -q "$1" && return ;;
	*) command -v "$1" >/dev/null 2>&1 && return ;;
	esac
	missing="$missing $2"
	costs="$costs
  $2: $3"
}

check() {
	missing= costs=
	want libopenblas.so.0 libopenblas0-pthread "training runs on gonum's BLAS, several times slower"
	if [ "$1" = demo ]; then
		want pip3 python3-pip "real data cannot be fetched; the demo runs on the made data set"
	fi
	if [ "$1" = encoder ]; then
		want /usr/share/wordnet/data.noun wordnet-base "the text encoder cannot be distilled as it was"
	fi
	if [ "$1" = test ]; then
		want g++ g++ "training on a GPU is not tried on the stand-in for one"
		want pip3 python3-pip "the kernels for GPUs are not rebuilt and compared"
		want clang-19 clang-19 "the guest kernel is not rebuilt and compared"
		want wasm-ld-19 lld-19 "the guest kernel is not rebuilt and compared"
		want qemu-aarch64 qemu-user "the arm64 run of the identity tests is skipped"
		want /usr/aarch64-linux-gnu/lib/ld-linux-aarch64.so.1 libc6-arm64-cross "the arm64 run of the identity tests is skipped"
		want node nodejs "the V8 run of the identity tests is skipped"
	fi
	if [ "$1" = web ]; then
		want node nodejs "the browser package is not tested, its demo not served"
		want npm npm "the browser package is not tested, its demo not served"
		want chromium chromium "the browser package is not tested in Chromium"
		want firefox-esr firefox-esr "the browser package is not tested in Firefox"
	fi
}

check "${1:-test}"
[ -z "$missing" ] && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
	echo "setup: installing$missing"
	# A stale package list is the usual reason for a first failure.
	{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing; } >/dev/null 2>&1
	check "${1:-test}"
	[ -z "$missing" ] && exit 0
	echo "setup: could not install:$costs"
else
	echo "setup: missing, and not installed because this needs root and apt-get:$costs"
	echo "setup: to have them: apt-get install$missing"
fi
exit 0
