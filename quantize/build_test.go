package quantize_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
	"github.com/wisp-project/wisp/internal/q8"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
	"github.com/wisp-project/wisp/wasm"
)

func build(t *testing.T, m *model.Model, ds *data.Dataset, histories [][]model.Event, o quantize.BuildOptions) *artifact.Artifact {
	t.Helper()
	a, err := quantize.Build(t.Context(), m, ds, histories, o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// image joins the segments of an artefact.
func image(a *artifact.Artifact) []byte {
	var b []byte
	for _, s := range a.Segments {
		b = append(b, s.Data...)
	}
	return b
}

func TestBuildManifest(t *testing.T) {
	m := random(t, small, 1)
	ds := catalogue(m.Config)
	h := calibration(m.Config, 8, 1)
	o := quantize.BuildOptions{
		Name: "winter", Version: 7, Tenant: "acme", Kernel: wasm.Kernel, Created: "2026-01-02T03:04:05Z",
		Licences: []artifact.Licence{{What: "data", Licence: "CC0-1.0"}}, Metrics: []artifact.Metric{{Name: "NDCG@10", Value: 0.25}},
	}
	a := build(t, m, ds, h, o)
	got := a.Manifest
	if got.Name != o.Name || got.Version != 7 || got.Tenant != o.Tenant || got.Created != o.Created || got.ABI != layout.ABI ||
		!reflect.DeepEqual(got.Licences, o.Licences) || !reflect.DeepEqual(got.Metrics, o.Metrics) {
		t.Errorf("manifest %+v does not say what the options %+v do", got, o)
	}
	want := artifact.ModelInfo{Items: 57, Dim: 18, Layers: 3, Heads: 3, FFN: 21, Window: 3, EventTypes: 8, GapBuckets: 24}
	if got.Model != want {
		t.Errorf("dimensions %+v, want %+v", got.Model, want)
	}
	if got.Limits.MaxHistory != m.Config.Reach() || got.Limits.MaxK != small.Items || got.Limits.MemoryPages == 0 {
		t.Errorf("limits %+v", got.Limits)
	}
	for i, kind := range ds.Types {
		if got.EventTypes[i] != (artifact.EventType{Name: kind.Name, AtLeast: kind.AtLeast}) {
			t.Errorf("event type %d is %+v, want %+v", i, got.EventTypes[i], kind)
		}
	}
	for i, item := range ds.Items {
		if a.Items[i].ID != item.ID || a.Items[i].Title != item.Title || !slices.Equal(a.Items[i].Categories, item.Categories) {
			t.Fatalf("item %d is %+v, want %+v", i, a.Items[i], item)
		}
	}
	_, labels := artifact.Labels(a.Items)
	if len(labels[0]) != 1 {
		t.Errorf("labels %v", labels)
	}
	if whole, err := quantize.Image(m, h, nil, labels); err != nil || !bytes.Equal(image(a), whole) {
		t.Errorf("the segments are not the model's image (%v)", err)
	}
	plain := build(t, m, ds, h, quantize.BuildOptions{Kernel: wasm.Kernel}).Manifest
	if plain.Name != ds.Name || plain.Version != 1 || plain.Tenant != "" || plain.Created != "" {
		t.Errorf("manifest without options: %+v", plain)
	}
}

// Golden requests are of every kind, their answers are the definition's, and
// none is like another.
func TestBuildGoldens(t *testing.T) {
	for _, s := range []layout.Shape{small, layouttest.Shapes()[0]} {
		m := random(t, s, 2)
		a := build(t, m, catalogue(m.Config), calibration(m.Config, 8, 2), quantize.BuildOptions{Kernel: wasm.Kernel})
		q, err := q8.New(image(a))
		if err != nil {
			t.Fatal(err)
		}
		if len(a.Goldens) != 42 {
			t.Errorf("%d golden requests, want 42", len(a.Goldens))
		}
		seen := map[string]bool{}
		lengths := map[int]bool{}
		for i, g := range a.Goldens {
			r, err := layout.ParseRequest(g.Request)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Check(q.Shape(), q.Map()); err != nil {
				t.Fatalf("golden request %d: %v", i, err)
			}
			answer := q.Run(r)
			if !bytes.Equal(answer.Append(nil), g.Answer) {
				t.Errorf("the answer of golden request %d is not the definition's", i)
			}
			lengths[len(r.History)] = true
			switch {
			case r.Kind == layout.KindScore:
				seen["scores"] = true
			case r.Flags&layout.FlagExcludeHistory != 0:
				seen["without the history"] = true
			case len(r.List) > 0:
				seen["without a list"] = true
			case int(r.K) == q.Map().MaxK:
				seen["all items"] = true
			}
		}
		if len(seen) != 4 || !lengths[0] || !lengths[q.Map().MaxHistory] {
			t.Errorf("%+v: golden requests cover %v and lengths %v", s, seen, lengths)
		}
	}
}

// The same inputs give the same file, byte for byte, and the file is served.
func TestBuildWrittenAndOpened(t *testing.T) {
	tr := train(t)
	h := histories(tr.split)
	folder := t.TempDir()
	var files [2]string
	for i := range files {
		files[i] = filepath.Join(folder, string(rune('a'+i))+".wisp")
		a := build(t, tr.model, tr.data, h, quantize.BuildOptions{Kernel: wasm.Kernel})
		if err := artifact.WriteFile(files[i], a, artifact.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	a, err := artifact.Open(files[0], artifact.ReadOptions{AllowUnsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	b, err := artifact.Open(files[1], artifact.ReadOptions{AllowUnsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	if a.Digest != b.Digest {
		t.Error("the same model gave two different artefacts")
	}
	r, err := edge.Open(t.Context(), files[0], edge.Options{Sandboxes: 1, AllowUnsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	answer, err := r.Recommend(t.Context(), edge.Request{History: []edge.Event{{Item: tr.data.Items[3].ID, Type: "click"}}, K: 3})
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.Items) != 3 || answer.ColdStart || answer.Items[0].Item == tr.data.Items[3].ID || answer.Items[0].Score < answer.Items[2].Score {
		t.Errorf("answer %+v", answer)
	}
}

func TestBuildRefuses(t *testing.T) {
	good := random(t, small, 3)
	h := calibration(good.Config, 4, 3)
	spoilt := random(t, small, 3)
	spoilt.ItemVectors.Data[0] = float32(math.Inf(-1))
	short, odd, twice := catalogue(good.Config), catalogue(good.Config), catalogue(good.Config)
	short.Items = short.Items[:small.Items-1]
	odd.Types = odd.Types[:3]
	twice.Items[4].ID = twice.Items[5].ID
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	ok := quantize.BuildOptions{Kernel: wasm.Kernel}
	for name, test := range map[string]struct {
		ctx  context.Context
		m    *model.Model
		ds   *data.Dataset
		h    [][]model.Event
		o    quantize.BuildOptions
		want error
		says string
	}{
		"broken weights":      {t.Context(), spoilt, catalogue(good.Config), h, ok, layout.ErrParams, "item scale[0]"},
		"no histories":        {t.Context(), good, catalogue(good.Config), nil, ok, quantize.ErrCalibration, "history"},
		"another catalogue":   {t.Context(), good, short, h, ok, artifact.ErrContent, "56 items"},
		"two items alike":     {t.Context(), good, twice, h, ok, artifact.ErrContent, "have the id"},
		"another vocabulary":  {t.Context(), good, odd, h, ok, artifact.ErrManifest, "event"},
		"no kernel":           {t.Context(), good, catalogue(good.Config), h, quantize.BuildOptions{}, artifact.ErrContent, "kernel"},
		"a kernel of no kind": {t.Context(), good, catalogue(good.Config), h, quantize.BuildOptions{Kernel: []byte("kernel")}, edge.ErrArtefact, "WebAssembly"},
		"context that ended":  {ended, good, catalogue(good.Config), h, ok, context.Canceled, "canceled"},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := quantize.Build(test.ctx, test.m, test.ds, test.h, test.o)
			if a != nil || !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %v, want %v that says %q", err, test.want, test.says)
			}
		})
	}
}

// TestBuildAttributes sees the attributes that items share become labels, and no others.
func TestBuildAttributes(t *testing.T) {
	m := random(t, small, 3)
	ds := catalogue(m.Config)
	for i := range ds.Items {
		ds.Items[i].Attributes = map[string]string{"sku": fmt.Sprint(i), "brand": []string{"Acme", "Zenith"}[i%2], "": "x"}
	}
	ds.Items[0].Attributes["empty"] = ""
	a := build(t, m, ds, calibration(m.Config, 8, 1), quantize.BuildOptions{Kernel: wasm.Kernel})
	labels, of := artifact.Labels(a.Items)
	want := []artifact.Label{{Value: "things"}, {Name: "brand", Value: "Acme"}, {Name: "brand", Value: "Zenith"}}
	if !slices.Equal(labels, want) || !slices.Equal(of[1], []uint32{0, 2}) {
		t.Errorf("labels %v, those of item 1 are %v", labels, of[1])
	}
	if image, err := a.Image(); err != nil || !slices.Equal(image.Labels()[1], of[1]) {
		t.Errorf("the image does not have the labels (%v)", err)
	}
	a.Items[3].Attributes = nil
	if _, err := a.Image(); !errors.Is(err, artifact.ErrContent) {
		t.Errorf("items without the labels of the image: %v", err)
	}
}
