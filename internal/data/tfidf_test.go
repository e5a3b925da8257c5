package data_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/internal/data"
)

func TestTFIDF(t *testing.T) {
	items := []data.Item{
		{ID: "a", Title: "Green TEA", Text: "tea, tea!"},
		{ID: "b", Title: "Black tea", Attributes: map[string]string{"kind": "loose-leaf"}},
		{ID: "c", Categories: []string{"green", "black"}, Attributes: map[string]string{"grams": "250", "form": "Leaf"}},
		{ID: "d", Text: "unmatched words only"},
		{ID: "e"},
	}
	m := data.FitTFIDF(items, data.TFIDFOptions{})
	if got, want := m.Terms(), []string{"black", "green", "leaf", "tea"}; !slices.Equal(got, want) {
		t.Fatalf("terms %q; want %q", got, want)
	}
	if n, terms := m.Dims(); n != 5 || terms != 4 {
		t.Errorf("dims %d, %d; want 5, 4", n, terms)
	}
	// Every term is in two of five items, so all have the same idf and the rows
	// are the counts scaled to length 1.
	for i, want := range []map[int32]float64{
		{1: 1 / math.Sqrt(10), 3: 3 / math.Sqrt(10)},
		{0: 1 / math.Sqrt(3), 2: 1 / math.Sqrt(3), 3: 1 / math.Sqrt(3)},
		{0: 1 / math.Sqrt(3), 1: 1 / math.Sqrt(3), 2: 1 / math.Sqrt(3)},
		{},
		{},
	} {
		columns, weights := m.Row(i)
		if len(columns) != len(want) || len(weights) != len(want) || !slices.IsSorted(columns) {
			t.Errorf("row %d has columns %v, weights %v; want %v", i, columns, weights, want)
			continue
		}
		for k, j := range columns {
			if math.Abs(float64(weights[k])-want[j]) > 1e-6 {
				t.Errorf("row %d, column %d: %g; want %g", i, j, weights[k], want[j])
			}
		}
	}
}

// TestTFIDFWeighsRareTerms checks the smooth idf where it differs by term.
func TestTFIDFWeighsRareTerms(t *testing.T) {
	items := []data.Item{{Title: "rock jazz"}, {Title: "rock"}, {Title: "rock"}}
	columns, weights := data.FitTFIDF(items, data.TFIDFOptions{MinDocs: 1}).Row(0)
	jazz, rock := math.Log(4./2)+1, math.Log(4./4)+1
	length := math.Hypot(jazz, rock)
	if !slices.Equal(columns, []int32{0, 1}) || math.Abs(float64(weights[0])-jazz/length) > 1e-6 || math.Abs(float64(weights[1])-rock/length) > 1e-6 {
		t.Errorf("columns %v, weights %v; want %g and %g", columns, weights, jazz/length, rock/length)
	}
}

func TestTFIDFVocabulary(t *testing.T) {
	items := []data.Item{{Title: "a b c"}, {Title: "a b d"}, {Title: "a c e"}, {Title: "a"}}
	for _, test := range []struct {
		opts data.TFIDFOptions
		want []string
	}{
		{data.TFIDFOptions{}, []string{"a", "b", "c"}},
		{data.TFIDFOptions{MinDocs: 1}, []string{"a", "b", "c", "d", "e"}},
		{data.TFIDFOptions{MinDocs: 3}, []string{"a"}},
		{data.TFIDFOptions{MinDocs: 5}, nil},
		{data.TFIDFOptions{MaxTerms: 1}, []string{"a"}},
		{data.TFIDFOptions{MaxTerms: 2}, []string{"a", "b"}}, // c is in as many items but later
	} {
		if got := data.FitTFIDF(items, test.opts).Terms(); !slices.Equal(got, test.want) {
			t.Errorf("%+v keeps %q; want %q", test.opts, got, test.want)
		}
	}
}

func TestTFIDFWords(t *testing.T) {
	for _, test := range []struct {
		text string
		want []string
	}{
		{"", nil},
		{" -- !? ", nil},
		{"don't STOP", []string{"don", "stop", "t"}},
		{"Žižek, ÉTÉ; 12½", []string{"12½", "été", "žižek"}},
		{"हिन्दी 日本語", []string{"हिन्दी", "日本語"}},
		{"\xff\xfeabc\xff", []string{"abc"}},
	} {
		t.Run(fmt.Sprintf("%q", test.text), func(t *testing.T) {
			got := data.FitTFIDF([]data.Item{{Text: test.text}}, data.TFIDFOptions{MinDocs: 1}).Terms()
			if !slices.Equal(got, test.want) {
				t.Errorf("words %q; want %q", got, test.want)
			}
		})
	}
}
