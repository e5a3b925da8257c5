#!/bin/sh
# Every fuzz target of the module for a bounded number of inputs (FUZZ, 20000 each).
set -eu
for package in $(${GO:-go} list ./...); do
	for target in $(${GO:-go} test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
		echo "fuzz: $package $target, ${FUZZ:=20000} inputs"
		${GO:-go} test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZ}x" "$package"
	done
done
