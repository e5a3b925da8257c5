package layout_test

import (
	"bytes"
	"errors"
	"math"
	"os"
	"reflect"
	"testing"

	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
)

func TestGeneratedFilesAreCommitted(t *testing.T) {
	for path, want := range map[string]string{"../../wasm/guest/layout.h": layout.CHeader(), "../../wasm/web/src/layout.js": layout.JSModule()} {
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s is stale: run go generate ./internal/layout", path)
		}
	}
}

func TestPackOpen(t *testing.T) {
	for _, s := range append(layouttest.Shapes(), layouttest.TextShapes()...) {
		p := layouttest.Params(s, 1)
		b, err := layout.Pack(p)
		if err != nil {
			t.Fatalf("%+v: %v", s, err)
		}
		image, err := layout.Open(b)
		if err != nil {
			t.Fatalf("%+v: %v", s, err)
		}
		if got := image.Params(); !reflect.DeepEqual(got, p) {
			t.Errorf("%+v: parameters changed on the way through an image", s)
		}
		if got := bytes.Join(image.Split(), nil); !bytes.Equal(got, b) {
			t.Errorf("%+v: the segments do not add up to the image", s)
		}
		if m := image.Map; m.End>>16 != m.Pages || m.Scratch < layout.ImageBase+uint32(len(b)) || m.Request < m.Scratch || m.Answer <= m.Request || m.MaxHistory != s.Reach() {
			t.Errorf("%+v: memory map %+v", s, m)
		}
	}
}

// TestOpenIsExact flips bits of images, every one without a text encoder and a
// sample of those with one: what Open still accepts must be an image that Pack makes
// of other parameters, never one with ignored bits.
func TestOpenIsExact(t *testing.T) {
	for _, c := range []struct {
		s    layout.Shape
		step int
	}{{layouttest.Shapes()[0], 3}, {layouttest.Shapes()[1], 1}, {layouttest.Shapes()[8], 1}, {layouttest.TextShapes()[0], 1601}} {
		b, err := layout.Pack(layouttest.Params(c.s, 1))
		if err != nil {
			t.Fatal(err)
		}
		accepted, flips := 0, 0
		for at := 0; at < 8*len(b); at += c.step {
			i, flip := at/8, byte(1)<<(at%8)
			b[i] ^= flip
			flips++
			if image, err := layout.Open(b); err == nil {
				accepted++
				if again, err := layout.Pack(image.Params()); err != nil || !bytes.Equal(again, b) {
					t.Fatalf("bit %#x of byte %d is ignored (%v)", flip, i, err)
				}
			} else if !errors.Is(err, layout.ErrImage) {
				t.Fatalf("bit %#x of byte %d: %v does not wrap ErrImage", flip, i, err)
			}
			b[i] ^= flip
		}
		if accepted == 0 || accepted == flips {
			t.Errorf("%d of %d flips accepted: the test sees nothing", accepted, flips)
		}
		for n := 0; n < len(b); n += c.step {
			if _, err := layout.Open(b[:n]); err == nil {
				t.Fatalf("the first %d of %d bytes are accepted", n, len(b))
			}
		}
		if _, err := layout.Open(append(b, 0)); err == nil {
			t.Error("a trailing byte is accepted")
		}
	}
}

func TestPackRefuses(t *testing.T) {
	s := layouttest.Shapes()[1]
	for name, breakIt := range map[string]func(p *layout.Params){
		"no items":        func(p *layout.Params) { p.Shape.Items = 0 },
		"heads":           func(p *layout.Params) { p.Shape.Heads = 4 },
		"nan bias":        func(p *layout.Params) { p.Blocks[0].QKV.Bias[1] = float32(math.NaN()) },
		"infinite scale":  func(p *layout.Params) { p.ItemScale[0] = float32(math.Inf(1)) },
		"negative scale":  func(p *layout.Params) { p.Blocks[0].Up.Scale[0] = -1 },
		"large gain":      func(p *layout.Params) { p.NormGain[0] = 1 << 21 },
		"weight -128":     func(p *layout.Params) { p.Blocks[0].Down.W[3] = -128 },
		"item row -128":   func(p *layout.Params) { p.ItemRows[0] = -128 },
		"cold":            func(p *layout.Params) { p.Cold[0] = 2048 },
		"missing block":   func(p *layout.Params) { p.Blocks = nil },
		"short item rows": func(p *layout.Params) { p.ItemRows = p.ItemRows[1:] },
	} {
		p := layouttest.Params(s, 1)
		breakIt(&p)
		if _, err := layout.Pack(p); !errors.Is(err, layout.ErrParams) && !errors.Is(err, layout.ErrShape) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	s = layouttest.Shapes()[7]
	for name, breakIt := range map[string]func(p *layout.Params){
		"no bounds":       func(p *layout.Params) { p.Bounds = layout.Bounds{} },
		"bounds no shape": func(p *layout.Params) { p.Shape.BoundFirst, p.Shape.BoundHead, p.Shape.BoundMiddle = 0, 0, 0 },
		"head":            func(p *layout.Params) { p.Shape.BoundHead = p.Shape.BoundMiddle + 1 },
		"first":           func(p *layout.Params) { p.Shape.BoundFirst = p.Shape.BoundHead + 1 },
		"no pivots":       func(p *layout.Params) { p.Bounds.Pivots = p.Bounds.Pivots[1:] },
		"no mix":          func(p *layout.Params) { p.Bounds.Mix[1] = 0 },
		"middle":          func(p *layout.Params) { p.Shape.BoundMiddle = p.Shape.Dim + 1 },
		"negative length": func(p *layout.Params) { p.Bounds.Rows[p.Shape.BoundHead] = -1 },
		"bound -128":      func(p *layout.Params) { p.Bounds.Rows[0] = -128 },
		"item twice":      func(p *layout.Params) { p.Bounds.Order[1] = p.Bounds.Order[0] },
		"no such item":    func(p *layout.Params) { p.Bounds.Order[1] = uint32(p.Shape.Items) },
		"negative slack":  func(p *layout.Params) { p.Bounds.Slack = -1 },
		"nan transform":   func(p *layout.Params) { p.Bounds.Transform[0] = float32(math.NaN()) },
	} {
		p := layouttest.Params(s, 1)
		breakIt(&p)
		if _, err := layout.Pack(p); !errors.Is(err, layout.ErrParams) && !errors.Is(err, layout.ErrShape) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	s = layouttest.Shapes()[2]
	for name, breakIt := range map[string]func(p *layout.Params){
		"no ratings":       func(p *layout.Params) { p.Ratings = nil },
		"ratings no shape": func(p *layout.Params) { p.Shape.Ratings = false },
		"nan mean":         func(p *layout.Params) { p.Ratings.Mean = float32(math.NaN()) },
		"scale":            func(p *layout.Params) { p.Ratings.Low = p.Ratings.High + 1 },
		"negative step":    func(p *layout.Params) { p.Ratings.Step = -1 },
		"negative shrink":  func(p *layout.Params) { p.Ratings.Shrink = -1 },
		"infinite high":    func(p *layout.Params) { p.Ratings.High = float32(math.Inf(1)) },
		"levels":           func(p *layout.Params) { p.Ratings.Levels = p.Ratings.Levels[1:] },
		"items":            func(p *layout.Params) { p.Ratings.Items = p.Ratings.Items[1:] },
		"item bias":        func(p *layout.Params) { p.Ratings.Items[0] = layout.NoLevel },
		"map":              func(p *layout.Params) { p.Ratings.Map.Rows-- },
		"map -128":         func(p *layout.Params) { p.Ratings.Map.W[0] = -128 },
	} {
		p := layouttest.Params(s, 1)
		breakIt(&p)
		if _, err := layout.Pack(p); !errors.Is(err, layout.ErrParams) && !errors.Is(err, layout.ErrShape) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	s = layouttest.TextShapes()[1]
	for name, breakIt := range map[string]func(p *layout.Params){
		"no encoder": func(p *layout.Params) { p.Text = nil },
		"no shape":   func(p *layout.Params) { p.Shape.Text = layout.TextShape{} },
		"one token":  func(p *layout.Params) { p.Shape.Text.Tokens = 1 },
		"tokens":     func(p *layout.Params) { p.Shape.Text.Tokens = 257 },
		"text heads": func(p *layout.Params) { p.Shape.Text.Heads = 4 },
		"tokenizer":  func(p *layout.Params) { p.Text.Tokenizer = make([]byte, len(p.Text.Tokenizer)) },
		"small vocabulary": func(p *layout.Params) {
			p.Shape.Text.Vocabulary = 5
			p.Text.Word.W = p.Text.Word.W[:5*15]
			p.Text.Word.Scale = p.Text.Word.Scale[:5]
		},
		"word scale":        func(p *layout.Params) { p.Text.Word.Scale[3] = 2 },
		"position -128":     func(p *layout.Params) { p.Text.Position.W[3] = -128 },
		"epsilon":           func(p *layout.Params) { p.Text.NormEpsilon = 0 },
		"nan gain":          func(p *layout.Params) { p.Text.NormGain[0] = float32(math.NaN()) },
		"large gain":        func(p *layout.Params) { p.Text.Blocks[0].FFNNormGain[0] = 1025 },
		"large bias":        func(p *layout.Params) { p.Text.Blocks[1].Down.Bias[0] = -1025 },
		"large scale":       func(p *layout.Params) { p.Text.Blocks[1].Up.Scale[0] = 1.5 },
		"missing block":     func(p *layout.Params) { p.Text.Blocks = p.Text.Blocks[:1] },
		"map without shape": func(p *layout.Params) { p.Shape.Text.ItemMap = false },
		"shape without map": func(p *layout.Params) { p.Text.UserMap = layout.Linear{} },
		"texts of no shape": func(p *layout.Params) { p.Shape.Text.ItemTexts = false },
		"one class":         func(p *layout.Params) { p.Shape.Text.Classes = 1 },
		"many classes":      func(p *layout.Params) { p.Shape.Text.Classes = layout.MaxClasses + 1 },
		"other classes":     func(p *layout.Params) { p.Shape.Text.Classes = 2 },
		"no classes":        func(p *layout.Params) { p.Shape.Text.Classes = 0 },
		"large class bias":  func(p *layout.Params) { p.Text.ClassMap.Bias[0] = 1025 },
		"short texts":       func(p *layout.Params) { p.Text.ItemTexts.W = p.Text.ItemTexts.W[1:] },
	} {
		p := layouttest.Params(s, 1)
		breakIt(&p)
		if _, err := layout.Pack(p); !errors.Is(err, layout.ErrParams) && !errors.Is(err, layout.ErrShape) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := layout.Pack(layout.Params{Shape: layout.Shape{Items: 1 << 26, Dim: 1024, Layers: 1, Heads: 1, FFN: 1, Window: 1, EventTypes: 1, GapBuckets: 1}}); err == nil {
		t.Error("an image beyond 4 GiB is accepted")
	}
}

func TestMessages(t *testing.T) {
	s := layouttest.Shapes()[3]
	image, err := layout.Open(must(layout.Pack(layouttest.Params(s, 1))))
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range layouttest.Requests(s, image.Map, 50, 1) {
		if err := r.Check(s, image.Map); err != nil {
			t.Errorf("request %d: %v", i, err)
		}
		got, err := layout.ParseRequest(r.Append(nil))
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("request %d: %+v came back as %+v (%v)", i, r, got, err)
		}
	}
	text := layouttest.TextShapes()[1]
	if image, err = layout.Open(must(layout.Pack(layouttest.Params(text, 1)))); err != nil {
		t.Fatal(err)
	}
	for i, r := range layouttest.TextRequests(text, image.Map, 50, 1) {
		if err := r.Check(text, image.Map); err != nil {
			t.Errorf("request %d: %v", i, err)
		}
		b := r.Append(nil)
		if got, err := layout.ParseRequest(b); err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("request %d: %+v came back as %+v (%v)", i, r, got, err)
		}
		if len(r.Text)%4 != 0 {
			b[len(b)-len(r.State)-1] = 1
			if _, err := layout.ParseRequest(b); !errors.Is(err, layout.ErrRequest) {
				t.Errorf("request %d: padding that is not zero: %v", i, err)
			}
		}
	}
	v := layout.Answer{Vector: []float32{1, -2, 3}, Row: []int8{1, 2, -3, 4, 127}, Scale: 0.5}
	if b := v.Append(nil); len(b) != layout.ParseAnswerHeader(b).Len() {
		t.Errorf("an answer of %d bytes says that it has %d", len(b), layout.ParseAnswerHeader(b).Len())
	} else if got, err := layout.ParseAnswer(b, layout.AnswerHeader{Vector: 3, Row: 5}, nil); err != nil || !reflect.DeepEqual(got, v) {
		t.Errorf("%+v came back as %+v (%v)", v, got, err)
	} else if _, err := layout.ParseAnswer(b, layout.AnswerHeader{Vector: 3, Row: 4}, nil); !errors.Is(err, layout.ErrAnswer) {
		t.Errorf("a longer row than asked for: %v", err)
	}
	st := layout.Answer{Hits: []layout.Hit{{Item: 3, Acc: -5, Score: -0.25}}, State: []byte{1, 2, 3, 4, 5, 6, 7, 8}}
	if got, err := layout.ParseAnswer(st.Append(nil), layout.AnswerHeader{Hits: 1, State: 8}, nil); err != nil || !reflect.DeepEqual(got, st) {
		t.Errorf("%+v came back as %+v (%v)", st, got, err)
	}
	if _, err := layout.ParseAnswer(st.Append(nil), layout.AnswerHeader{Hits: 1, State: 4}, nil); !errors.Is(err, layout.ErrAnswer) {
		t.Errorf("a state that was not asked for: %v", err)
	}
	a := layout.Answer{Status: 0, Hits: []layout.Hit{{Item: 3, Acc: -5, Score: -0.25}, {Item: 1, Acc: 7, Score: -0.5}}}
	got, err := layout.ParseAnswer(a.Append(nil), layout.AnswerHeader{Hits: 2}, nil)
	if err != nil || !reflect.DeepEqual(got, a) {
		t.Errorf("%+v came back as %+v (%v)", a, got, err)
	}
	if _, err := layout.ParseAnswer(a.Append(nil), layout.AnswerHeader{Hits: 1}, nil); !errors.Is(err, layout.ErrAnswer) {
		t.Errorf("more hits than asked for: %v", err)
	}
	if _, err := layout.ParseAnswer(a.Append(nil)[:20], layout.AnswerHeader{Hits: 2}, nil); !errors.Is(err, layout.ErrAnswer) {
		t.Errorf("a short answer: %v", err)
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

func FuzzOpen(f *testing.F) {
	for _, s := range append(layouttest.Shapes()[:2], layouttest.TextShapes()[0]) {
		f.Add(must(layout.Pack(layouttest.Params(s, 1))))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		image, err := layout.Open(bytes.Clone(b))
		if err != nil {
			return
		}
		if again, err := layout.Pack(image.Params()); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("an accepted image is not what Pack makes (%v)", err)
		}
	})
}

func FuzzParseRequest(f *testing.F) {
	r := layout.Request{Kind: 1, K: 3, History: []layout.Event{{Item: 1, Type: 2, Gap: 3}}, List: []uint32{4}, Text: "t"}
	f.Add(r.Append(nil))
	r.State = []byte{1, 2, 3, 4, 5}
	f.Add(r.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := layout.ParseRequest(b)
		if err == nil && !bytes.Equal(r.Append(nil), b) {
			t.Fatal("a parsed request does not encode to the same bytes")
		}
	})
}
