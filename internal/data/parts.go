package data

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"
)

// ItemParts say of what the vectors that ItemVectors makes of items are the sum:
// the vector of item i is Factor[i] times the sum of the vectors of its parts, as
// well as the decomposition gives the texts.
type ItemParts struct {
	Names   []string  // "category Comedy", "brand Cedar" or "word drill", of each part
	Vectors []float32 // (parts, dim) row-major
	Of      [][]ItemPart
	Factor  []float32 // of each item
}

// ItemPart is a part of an item, and how often the item has it.
type ItemPart struct {
	Part, Count int
}

// NewItemParts returns the parts of vectors, (len(items), dim), that ItemVectors
// made of items. Categories and attribute values are parts as a whole, and their
// words do not count again; the words of title and text are one each.
func NewItemParts(items []Item, vectors []float32, dim int) (*ItemParts, error) {
	if dim < 1 || len(vectors) != len(items)*dim {
		return nil, fmt.Errorf("%w: %d values are no vectors of %d items with %d columns", ErrOptions, len(vectors), len(items), dim)
	}
	t := FitTFIDF(items, TFIDFOptions{})
	words, p := t.wordVectors(vectors, dim), &ItemParts{Of: make([][]ItemPart, len(items)), Factor: make([]float32, len(items))}
	_, terms := t.Dims()
	column := make(map[string]int, terms)
	for j, term := range t.Terms() {
		column[term] = j
	}
	idf := t.frequencies()
	number := map[string]int{}
	part := func(name string, counts map[string]int) int {
		n, ok := number[name]
		if ok {
			return n
		}
		n = len(p.Names)
		number[name] = n
		p.Names = append(p.Names, name)
		row := make([]float64, dim)
		for _, word := range slices.Sorted(maps.Keys(counts)) {
			j, ok := column[word]
			for d := 0; ok && d < dim; d++ {
				row[d] += float64(counts[word]) * idf[j] * words.At(j, d)
			}
		}
		for _, v := range row {
			p.Vectors = append(p.Vectors, float32(v))
		}
		return n
	}
	for i := range items {
		item := &items[i]
		all := countWords(item)
		squares := 0.0
		for _, word := range slices.Sorted(maps.Keys(all)) {
			if j, ok := column[word]; ok {
				w := float64(all[word]) * idf[j]
				squares += w * w
			}
		}
		if squares == 0 {
			continue
		}
		p.Factor[i] = float32(1 / math.Sqrt(squares))
		times := map[int]int{}
		whole := func(kind, value string) {
			counts, known := countWords(&Item{Title: value}), false
			for word, n := range counts {
				_, ok := column[word]
				known = known || ok
				if all[word] -= n; all[word] == 0 {
					delete(all, word)
				}
			}
			if known {
				times[part(kind+" "+value, counts)]++
			}
		}
		for _, c := range item.Categories {
			whole("category", c)
		}
		for _, name := range slices.Sorted(maps.Keys(item.Attributes)) {
			whole(name, item.Attributes[name])
		}
		for _, word := range slices.Sorted(maps.Keys(all)) {
			if _, ok := column[word]; ok {
				times[part("word "+word, map[string]int{word: 1})] += all[word]
			}
		}
		for _, n := range slices.Sorted(maps.Keys(times)) {
			p.Of[i] = append(p.Of[i], ItemPart{Part: n, Count: times[n]})
		}
	}
	return p, nil
}

// frequencies returns the factor of each term, as FitTFIDF has it.
func (t *TFIDF) frequencies() []float64 {
	n, terms := t.Dims()
	docs := make([]int, terms)
	for _, j := range t.columns {
		docs[j]++
	}
	idf := make([]float64, terms)
	for j := range idf {
		idf[j] = math.Log(float64(1+n)/float64(1+docs[j])) + 1
	}
	return idf
}

// wordVectors returns the vector of each term, (terms, dim): t times them is x, the
// vectors of the items, as well as can be. x is c·U·S of a decomposition U·S·V' of t,
// so that t'x over the squared lengths of x's columns is V over c; the best factor
// does away with c.
func (t *TFIDF) wordVectors(x []float32, dim int) *mat.Dense {
	n, terms := t.Dims()
	rows := mat.NewDense(max(n, 1), dim, nil)
	for i, v := range x {
		rows.RawMatrix().Data[i] = float64(v)
	}
	if terms == 0 {
		return mat.NewDense(1, dim, nil)
	}
	words := t.transposedTimes(rows)
	squares, most := make([]float64, dim), 0.0
	for d := range squares {
		for i := range n {
			squares[d] += rows.At(i, d) * rows.At(i, d)
		}
		most = max(most, squares[d])
	}
	for d, s := range squares {
		for j := range terms {
			if s > most*1e-9 {
				words.Set(j, d, words.At(j, d)/s)
			} else { // no more than rounding errors
				words.Set(j, d, 0)
			}
		}
	}
	again := t.times(words)
	var both, own float64
	for i, v := range again.RawMatrix().Data {
		both += v * rows.RawMatrix().Data[i]
		own += v * v
	}
	if own > 0 {
		words.Scale(both/own, words)
	}
	return words
}
