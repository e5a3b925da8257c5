#!/bin/sh
# The tests of the browser package in Chromium and Firefox, and of what npm would
# publish. Says what it could not have, and passes without it.
set -eu
for program in node npm; do
	command -v $program >/dev/null || { echo "test-web: $program missing: the browser package was not tested"; exit 0; }
done
if [ "$(node -p 'process.versions.node.split(".")[0] >= 20')" != true ]; then
	echo "test-web: node $(node --version) is too old (20 is needed): the browser package was not tested"
	exit 0
fi
WISP_WEB_FIXTURES=$(mktemp -d)
export WISP_WEB_FIXTURES
trap 'rm -rf "$WISP_WEB_FIXTURES"' EXIT
# Fixtures are written only by a test that runs, so nothing may come from the test cache.
go test -count=1 -run 'TestWeb' ./cmd/wisp-edge ./internal/q8
cd wasm/web
if ! [ node_modules/.package-lock.json -nt package-lock.json ] && ! npm ci --no-audit --no-fund --ignore-scripts --loglevel=error; then
	# Whatever else is wrong is a failure.
	npm view typescript version >/dev/null 2>&1 && { echo "test-web: npm ci failed though a package registry answers"; exit 1; }
	echo "test-web: no package registry answers: the browser package was not tested"
	exit 0
fi
npm run --silent check
npm run --silent build
npm test --silent
