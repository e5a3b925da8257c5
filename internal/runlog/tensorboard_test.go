package runlog_test

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// pythonVariable names a Python that has TensorBoard; the test then fails where
// it cannot read the files. Without it, python3 is tried.
const pythonVariable = "WISP_TEST_PYTHON"

// noModule is the exit status of readWithTensorBoard without TensorBoard.
const noModule = 77

const readWithTensorBoard = `
import json, sys
try:
    from tensorboard.backend.event_processing import event_accumulator, plugin_event_accumulator
    from tensorboard.plugins import base_plugin
    from tensorboard.plugins.projector import projector_plugin
    from tensorboard.util import tensor_util
    from werkzeug import test, wrappers
    import numpy as np
except ImportError as e:
    print(e)
    sys.exit(77)
logdir = sys.argv[1]
a = event_accumulator.EventAccumulator(logdir, size_guidance={"scalars": 0, "histograms": 0})
a.Reload()
out = {"scalars": {}, "histograms": {}, "buckets": {}}
for tag in a.Tags()["scalars"]:
    out["scalars"][tag] = [[s.step, str(s.value), s.wall_time] for s in a.Scalars(tag)]
for tag in a.Tags()["histograms"]:
    out["histograms"][tag] = [
        {"step": h.step, "min": v.min, "max": v.max, "num": v.num, "sum": v.sum, "squares": v.sum_squares,
         "limits": list(v.bucket_limit), "counts": list(v.bucket)}
        for h in a.Histograms(tag) for v in [h.histogram_value]]
# The buckets as the page shows them: left, right, count.
p = plugin_event_accumulator.EventAccumulator(logdir, size_guidance={"tensors": 0})
p.Reload()
for tag in a.Tags()["histograms"]:
    out["buckets"][tag] = [tensor_util.make_ndarray(t.tensor_proto).tolist() for t in p.Tensors(tag)]
apps = projector_plugin.ProjectorPlugin(base_plugin.TBContext(logdir=logdir)).get_plugin_apps()
def get(route, query):
    r = test.Client(apps[route], wrappers.Response).get("/?run=." + query)
    if r.status_code != 200:
        sys.exit("%s: %s" % (route, r.get_data()))
    return r.get_data()
out["projector"] = json.loads(get("/info", ""))["embeddings"]
out["tensor"] = np.frombuffer(get("/tensor", "&name=items"), dtype="float32").tolist()
out["labels"] = get("/metadata", "&name=items").decode("utf-8").splitlines()
json.dump(out, sys.stdout)
`

// board is what TensorBoard read.
type board struct {
	Scalars    map[string][][3]any
	Histograms map[string][]struct {
		Step                        int64
		Min, Max, Num, Sum, Squares float64
		Limits, Counts              []float64
	}
	Buckets   map[string][][][3]float64
	Projector []struct {
		TensorName  string
		TensorShape []int
	}
	Tensor []float32
	Labels []string
}

func TestTensorBoardReads(t *testing.T) {
	python := os.Getenv(pythonVariable)
	required := python != ""
	if !required {
		var err error
		if python, err = exec.LookPath("python3"); err != nil {
			t.Skipf("no python3 here; name one that has tensorboard in %s", pythonVariable)
		}
	}
	// A run that was killed after step 5 and resumed from step 3.
	dir := t.TempDir()
	r := open(t, dir, 0)
	record(r, 1, 5)
	dir = abandon(t, dir)
	r = open(t, dir, 3)
	record(r, 4, 6)
	r.Scalar(7, "loss", math.NaN(), start)
	r.Scalar(8, "loss", math.Inf(-1), start)
	vectors, labels := []float32{1, -2.5, 1e-20, 0.1, 3, 4}, []string{"red\tshoe", "", "Käse"}
	if err := errors.Join(r.Embedding("items", vectors, 2, labels), r.Embedding("towers/users", vectors, 3, nil)); err != nil {
		t.Fatal(err)
	}
	closeRun(t, r)

	cmd := exec.CommandContext(t.Context(), python, "-c", readWithTensorBoard, dir)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if exit := new(exec.ExitError); errors.As(err, &exit) && exit.ExitCode() == noModule && !required {
		t.Skipf("%s has no TensorBoard (%s); name one that has it in %s", python, strings.TrimSpace(string(out)), pythonVariable)
	}
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, &stderr)
	}
	var got board
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}

	loss := got.Scalars["loss"]
	if len(got.Scalars) != 1 || len(loss) != 8 {
		t.Fatalf("scalars are %v, want 8 of loss", got.Scalars)
	}
	for i, s := range loss {
		if s[0] != float64(i+1) || s[2] != float64(start.UnixMilli())/1e3 {
			t.Errorf("scalar %d is %v", i, s)
		}
	}
	if loss[3][1] != "0.25" || loss[6][1] != "nan" || loss[7][1] != "-inf" {
		t.Errorf("scalars are %v", loss)
	}

	weights := got.Histograms["weights"]
	if len(got.Histograms) != 1 || len(weights) != 6 || len(got.Buckets["weights"]) != 6 {
		t.Fatalf("histograms are %v, want 6 of weights", got.Histograms)
	}
	for i, h := range weights {
		last := float64(i + 1)
		if h.Step != int64(i+1) || h.Min != 1 || h.Max != max(2, last) || h.Num != 3 || h.Sum != 3+last || h.Squares != 5+last*last {
			t.Errorf("histogram %d is %+v", i, h)
		}
		if len(h.Limits) != 64 || h.Limits[63] != h.Max || len(h.Counts) != 64 {
			t.Errorf("histogram %d has limits %v", i, h.Limits)
		}
		shown := got.Buckets["weights"][i]
		var n float64
		for _, b := range shown {
			n += b[2]
		}
		if first, end := shown[0], shown[len(shown)-1]; n != 3 || first[0] != 1 || end[1] != h.Max {
			t.Errorf("histogram %d is shown as %v", i, shown)
		}
	}

	if p := got.Projector; len(p) != 2 || p[0].TensorName != "items" || !slices.Equal(p[0].TensorShape, []int{3, 2}) ||
		p[1].TensorName != "towers/users" || !slices.Equal(p[1].TensorShape, []int{2, 3}) {
		t.Errorf("projector shows %+v", p)
	}
	if !slices.Equal(got.Tensor, vectors) || !slices.Equal(got.Labels, []string{"red shoe", "1", "Käse"}) {
		t.Errorf("projector shows %v, labels %q", got.Tensor, got.Labels)
	}
}
