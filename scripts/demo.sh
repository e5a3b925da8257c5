#!/bin/sh
# The main job, command by command: fetch, prepare, train, compress, sign,
# evaluate, recommend, search, report. Each line that starts with "+" can be run by hand.
#
# WISP is the binary, OUT the folder for everything that is made.
set -eu
: "${WISP:=bin/wisp}" "${OUT:=out/demo}"
mkdir -p "$OUT"

run() {
	echo
	echo "+ $*"
	"$@"
}

start=$(date +%s)
run "$WISP" doctor

# Real data through a package registry; the made data set where none answers.
status=0
run "$WISP" data ml-100k --out "$OUT/raw" || status=$?
case $status in
0)
	name=ml-100k user=1 search="a spaceship far away"
	run "$WISP" prepare --name $name --format recbole --out "$OUT/prepared" \
		--events "$OUT/raw/ml-100k.inter" --items "$OUT/raw/ml-100k.item" --users "$OUT/raw/ml-100k.user"
	;;
3)
	echo
	echo "demo: no package registry answers: going on with the data set that wisp makes itself."
	name=made user=u000001 search="something for a musician"
	run "$WISP" simulate --out "$OUT/raw" --users 1000 --items 800 --events 60000 --seed 1
	run "$WISP" prepare --name $name --format jsonl --out "$OUT/prepared" \
		--events "$OUT/raw/events.jsonl" --items "$OUT/raw/items.jsonl" --users "$OUT/raw/users.jsonl"
	;;
*) exit $status ;;
esac

# The built-in text encoder reads the items, and goes along into the artefact.
run "$WISP" train "$OUT/prepared" --encoder built-in --features 0 --out "$OUT/model"
run "$WISP" compress "$OUT/model" --data "$OUT/prepared" --encoder built-in --out "$OUT/$name.wisp"
[ -e "$OUT/demo.key" ] || run "$WISP" keygen --out "$OUT/demo.key"
run "$WISP" sign "$OUT/demo.key" "$OUT/$name.wisp"
run "$WISP" verify --key "$OUT/demo.key.pub" "$OUT/$name.wisp"
run "$WISP" inspect "$OUT/$name.wisp"
run "$WISP" eval --data "$OUT/prepared" --model "$OUT/model" --artefact "$OUT/$name.wisp"
run "$WISP" recommend "$OUT/$name.wisp" --data "$OUT/prepared" --user $user --explain
run "$WISP" recommend "$OUT/$name.wisp" --text "$search"
run "$WISP" report --data "$OUT/prepared" --model "$OUT/model" --encoder built-in --artefact "$OUT/$name.wisp" --round 200ms --out "$OUT/report"

echo
echo "demo: finished in $(($(date +%s) - start)) s. The artefact: $OUT/$name.wisp
demo: what it saves and what serving it costs: $OUT/report/index.html, a page for any browser
demo: to serve it: ${WISP}-edge --trust $OUT/demo.key.pub $OUT/$name.wisp"
