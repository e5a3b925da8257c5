package q8_test

import (
	"errors"
	"math"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
	"github.com/wisp-project/wisp/internal/q8"
)

func TestExp(t *testing.T) {
	var worst float64
	for i := range 400000 {
		x := -float32(i) / 20000
		want := math.Exp(float64(x))
		worst = max(worst, math.Abs(float64(q8.Exp(x))-want)/want)
	}
	if worst > 5e-7 {
		t.Errorf("largest relative error %g, want at most 5e-7", worst)
	}
	if q8.Exp(0) != 1 {
		t.Errorf("exp(0) = %v", q8.Exp(0))
	}
	if got := q8.Exp(-1e30); got != q8.Exp(-20) || got > 1.0/65534 {
		t.Errorf("exp(-1e30) = %v, must be exp(-20), below half a step", got)
	}
}

// TestHandWorked follows one event through a model of width 2 without blocks'
// influence: gains of the block's products are zero.
func TestHandWorked(t *testing.T) {
	s := layout.Shape{Items: 2, Dim: 2, Layers: 1, Heads: 1, FFN: 1, Window: 1, EventTypes: 1, GapBuckets: 2}
	p := layouttest.Params(s, 1)
	b := &p.Blocks[0]
	for _, l := range []*layout.Linear{&b.QKV, &b.Out, &b.Up, &b.Down} {
		clear(l.Scale)
		clear(l.Bias)
	}
	p.Type, p.Gap = []float32{1, 0}, []float32{0, 0, 0, 2}
	p.ItemRows, p.ItemScale, p.InputScale = []int8{2, 4, -1, 1}, []float32{0.5, 0.25}, 4
	p.NormGain, p.NormBias, p.UserInv = []float32{1, 1}, []float32{0, 0.5}, 100
	image, err := layout.Pack(p)
	if err != nil {
		t.Fatal(err)
	}
	m, err := q8.New(image)
	if err != nil {
		t.Fatal(err)
	}
	// x = (2, 4)·0.5·4 + (1, 0) + (0, 2) = (5, 10); normalised (-1, 1); u = (-100, 150).
	u := m.User([]layout.Event{{Item: 0, Gap: 1}}, nil)
	if !slices.Equal(u, []int16{-100, 150}) {
		t.Fatalf("u = %v, want [-100 150]", u)
	}
	// scores: (-200+600)·0.5 = 200, (100+150)·0.25 = 62.5
	got := m.Run(layout.Request{Kind: layout.KindRecommend, K: 2, History: []layout.Event{{Item: 0, Gap: 1}}})
	want := []layout.Hit{{Item: 0, Acc: 400, Score: 200}, {Item: 1, Acc: 250, Score: 62.5}}
	if !slices.Equal(got.Hits, want) {
		t.Errorf("hits %v, want %v", got.Hits, want)
	}
	got = m.Run(layout.Request{Kind: layout.KindRecommend, K: 2, Flags: layout.FlagExcludeHistory, History: []layout.Event{{Item: 0, Gap: 1}}})
	if !slices.Equal(got.Hits, want[1:]) {
		t.Errorf("without the history: hits %v, want %v", got.Hits, want[1:])
	}
}

func TestNewRefusesDamage(t *testing.T) {
	if _, err := q8.New([]byte("no image")); !errors.Is(err, layout.ErrImage) {
		t.Errorf("got %v, want ErrImage", err)
	}
}

// TestNoFusedInstructions reads the assembly of the package where the compiler
// may fuse a product with a sum: that would round once where the definition
// rounds twice.
func TestNoFusedInstructions(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the package twice")
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("the go command is not on the path")
	}
	fused := regexp.MustCompile(`(?m)^.*\b(VFN?M(ADD|SUB)\w*|FN?M(ADD|SUB)[SD]|FML[AS])\b.*$`)
	for _, env := range [][]string{{"GOARCH=arm64"}, {"GOARCH=amd64", "GOAMD64=v3"}} {
		cmd := exec.CommandContext(t.Context(), goTool, "build", "-gcflags=-S", ".")
		cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", env, err, out)
		}
		if !regexp.MustCompile(`q8\.norm STEXT`).Match(out) {
			t.Fatalf("%v: no assembly of q8.norm in %d bytes of output", env, len(out))
		}
		if hits := fused.FindAll(out, 3); hits != nil {
			t.Errorf("%v: fused instructions: %s", env, hits)
		}
	}
}
