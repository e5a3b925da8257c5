package data_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/wisp-project/wisp/internal/data"
)

// texts returns items whose words are drawn from overlapping topics, and some
// without text.
func texts(n int) []data.Item {
	rng := rand.New(rand.NewPCG(9, 10))
	items := make([]data.Item, n)
	for i := range items {
		if i%17 == 5 {
			continue
		}
		topic := rng.IntN(6)
		var text strings.Builder
		for range 5 + rng.IntN(20) {
			fmt.Fprintf(&text, "word%d ", topic*12+int(math.Abs(rng.NormFloat64())*9))
		}
		items[i].Text = text.String()
	}
	return items
}

// dense returns the TF-IDF matrix of items.
func dense(items []data.Item) *mat.Dense {
	m := data.FitTFIDF(items, data.TFIDFOptions{})
	n, terms := m.Dims()
	a := mat.NewDense(n, terms, nil)
	for i := range n {
		columns, weights := m.Row(i)
		for k, j := range columns {
			a.Set(i, int(j), float64(weights[k]))
		}
	}
	return a
}

// itemVectors returns data.ItemVectors as a matrix.
func itemVectors(t *testing.T, items []data.Item, dim int, seed uint64) *mat.Dense {
	t.Helper()
	vectors, err := data.ItemVectors(items, dim, seed)
	if err != nil {
		t.Fatal(err)
	}
	if len(vectors) != len(items)*dim {
		t.Fatalf("%d values; want %d rows of %d", len(vectors), len(items), dim)
	}
	a := mat.NewDense(len(items), dim, nil)
	for i, v := range vectors {
		a.RawMatrix().Data[i] = float64(v)
	}
	return a
}

// TestItemVectors compares with gonum's full decomposition: by the Gram matrix of
// the rows, which does not depend on signs, where a gap follows the last singular
// value; and by the energy that the columns span where the spectrum is flat.
func TestItemVectors(t *testing.T) {
	items := texts(120)
	full := dense(items)
	_, terms := full.Dims()
	var svd mat.SVD
	if !svd.Factorize(full, mat.SVDThin) {
		t.Fatal("full decomposition failed")
	}
	var u mat.Dense
	svd.UTo(&u)
	values := svd.Values(nil)
	for _, test := range []struct {
		dim int
		gap bool
	}{{1, true}, {4, true}, {16, false}, {40, false}, {terms, true}} {
		t.Run(fmt.Sprint(test.dim), func(t *testing.T) {
			got := itemVectors(t, items, test.dim, 1)
			most, energy := 0.0, 0.0
			for j := range test.dim {
				most += values[j] * values[j]
				var along mat.VecDense
				along.MulVec(full.T(), got.ColView(j))
				if norm := mat.Norm(got.ColView(j), 2); norm > 0 {
					energy += math.Pow(mat.Norm(&along, 2)/norm, 2)
				}
			}
			if energy < 0.999*most || energy > 1.001*most {
				t.Errorf("columns span an energy of %g; the best are %g", energy, most)
			}
			if !test.gap {
				return
			}
			var want, gotGram, wantGram mat.Dense
			want.Mul(u.Slice(0, len(items), 0, test.dim), mat.NewDiagDense(test.dim, values[:test.dim]))
			total, rows := 0.0, 0.0
			for i, item := range items {
				if item.Text != "" {
					total += mat.Norm(want.RowView(i), 2)
					rows++
				}
			}
			want.Scale(rows/total, &want)
			gotGram.Mul(got, got.T())
			wantGram.Mul(&want, want.T())
			if !mat.EqualApprox(&gotGram, &wantGram, 1e-4) {
				var diff mat.Dense
				diff.Sub(&gotGram, &wantGram)
				t.Errorf("Gram matrices differ by %g", mat.Norm(&diff, math.Inf(1)))
			}
		})
	}
}

// TestItemVectorsShape checks what holds for any texts: columns orthogonal and in
// descending order of length, mean row length 1, rows without text zero.
func TestItemVectorsShape(t *testing.T) {
	items := texts(300)
	a := itemVectors(t, items, 8, 1)
	var gram mat.Dense
	gram.Mul(a.T(), a)
	for i := range 8 {
		for j := range i {
			if math.Abs(gram.At(i, j)) > 1e-4*gram.At(0, 0) {
				t.Errorf("columns %d and %d have the inner product %g", i, j, gram.At(i, j))
			}
		}
		if i > 0 && gram.At(i, i) > gram.At(i-1, i-1) {
			t.Errorf("column %d is longer than the one before", i)
		}
	}
	total, rows := 0.0, 0.0
	for i, item := range items {
		norm := mat.Norm(a.RowView(i), 2)
		if (norm == 0) != (item.Text == "") {
			t.Errorf("row %d has the length %g for the text %q", i, norm, item.Text)
		}
		if norm > 0 {
			total += norm
			rows++
		}
	}
	if mean := total / rows; math.Abs(mean-1) > 1e-5 {
		t.Errorf("mean length %g; want 1", mean)
	}
}

func TestItemVectorsSeed(t *testing.T) {
	items := texts(200)
	first, err := data.ItemVectors(items, 6, 1)
	if err != nil {
		t.Fatal(err)
	}
	again, err := data.ItemVectors(items, 6, 1)
	if err != nil || !slices.Equal(first, again) {
		t.Errorf("the same seed gives other vectors (error %v)", err)
	}
}

// TestItemVectorsBeyondRank asks for more columns than there are independent
// texts.
func TestItemVectorsBeyondRank(t *testing.T) {
	items := []data.Item{{Title: "red"}, {Title: "red"}, {Title: "blue"}, {Title: "blue"}, {Title: "red"}}
	a := itemVectors(t, items, 5, 1)
	want := mat.NewDense(5, 5, []float64{
		1, 0, 0, 0, 0,
		1, 0, 0, 0, 0,
		0, 1, 0, 0, 0,
		0, 1, 0, 0, 0,
		1, 0, 0, 0, 0,
	})
	if !mat.EqualApprox(a, want, 1e-6) {
		t.Errorf("vectors\n%v; want\n%v", mat.Formatted(a), mat.Formatted(want))
	}
	for j := 2; j < 5; j++ {
		if mat.Norm(a.ColView(j), 2) != 0 {
			t.Errorf("column %d is not zero", j)
		}
	}
}

func TestItemVectorsWithoutText(t *testing.T) {
	for _, items := range [][]data.Item{{{ID: "a"}, {ID: "b"}}, {{Title: "once"}, {Title: "only"}}, nil} {
		vectors, err := data.ItemVectors(items, 3, 1)
		if err != nil || len(vectors) != 3*len(items) || slices.ContainsFunc(vectors, func(v float32) bool { return v != 0 }) {
			t.Errorf("%d items: vectors %v, error %v; want zeros", len(items), vectors, err)
		}
	}
	if _, err := data.ItemVectors(nil, 0, 1); !errors.Is(err, data.ErrOptions) {
		t.Errorf("vectors of no columns: %v", err)
	}
}
