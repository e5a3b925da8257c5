#!/bin/sh
# Makes the artefact of the demo page, once, and serves the page.
#
# WISP is the binary, OUT the folder for what is made, PORT where it is served, ENCODER
# the text encoder that goes into the artefact: a folder, "built-in" or "none".
set -eu
: "${WISP:=bin/wisp}" "${OUT:=out/web}" "${PORT:=8000}" "${ENCODER:=built-in}"
mkdir -p "$OUT"
for program in node npm; do
	command -v $program >/dev/null || { echo "web: $program is missing; install nodejs and npm"; exit 1; }
done

artefact() {
	status=0
	"$WISP" data ml-100k --out "$OUT/raw" || status=$?
	case $status in
	0) "$WISP" prepare --name ml-100k --format recbole --out "$OUT/prepared" \
		--events "$OUT/raw/ml-100k.inter" --items "$OUT/raw/ml-100k.item" --users "$OUT/raw/ml-100k.user" ;;
	3)
		echo "web: no package registry answers: going on with the data set in testdata/made."
		"$WISP" prepare --name made --format jsonl --out "$OUT/prepared" \
			--events testdata/made/events.jsonl --items testdata/made/items.jsonl --users testdata/made/users.jsonl
		;;
	*) exit $status ;;
	esac
	if [ "$ENCODER" = none ]; then
		"$WISP" train "$OUT/prepared" --out "$OUT/model"
		"$WISP" compress "$OUT/model" --data "$OUT/prepared" --out "$OUT/new.wisp"
	else
		"$WISP" train "$OUT/prepared" --encoder "$ENCODER" --features 0 --out "$OUT/model"
		"$WISP" compress "$OUT/model" --data "$OUT/prepared" --encoder "$ENCODER" --out "$OUT/new.wisp"
	fi
	[ -e "$OUT/demo.key" ] || "$WISP" keygen --out "$OUT/demo.key"
	"$WISP" sign "$OUT/demo.key" "$OUT/new.wisp"
	mkdir -p "$OUT/served"
	"$WISP" report --data "$OUT/prepared" --model "$OUT/model" --artefact "$OUT/new.wisp" --round 200ms --out "$OUT/report" \
		$([ "$ENCODER" = none ] || echo --encoder "$ENCODER")
	cp "$OUT/report/report.json" "$OUT/served/report.json"
	mv "$OUT/new.wisp" "$OUT/served/demo.wisp"
	node -e 'const [artefact, key, report] = process.argv.slice(1)
		console.log(JSON.stringify({ artefact, publicKey: require("fs").readFileSync(key, "utf8"), report }))' \
		/artefact/demo.wisp "$OUT/demo.key.pub" /artefact/report.json >"$OUT/served/demo.json"
}

[ -e "$OUT/served/demo.json" ] || artefact
served=$(cd "$OUT/served" && pwd)
cd wasm/web
[ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --no-audit --no-fund --ignore-scripts --silent
npm run --silent build
exec node serve.mjs "$PORT" "/=demo" "/dist/=dist" "/artefact/=$served"
