package data

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"unicode"
)

// TFIDFOptions says which words FitTFIDF keeps. The zero value is ready to use.
type TFIDFOptions struct {
	MaxTerms int // the most terms kept, those of most items first; default 50,000
	MinDocs  int // the fewest items that a term must occur in; default 2
}

// TFIDF holds a sparse vector for each item: how often each of its words occurs
// in it, times ln((1+n)/(1+df))+1 for a word that df of n items have, scaled to
// length 1. An item without any kept word has a zero vector. Memory is 8 bytes
// for each different word of each item. It is safe for concurrent use.
type TFIDF struct {
	terms   []string // in alphabetical order
	start   []int    // row i is entries start[i] to start[i+1]
	columns []int32  // ascending within a row
	weights []float32
}

// FitTFIDF makes the vectors of items from the words of their titles, texts,
// categories and attribute values.
func FitTFIDF(items []Item, opts TFIDFOptions) *TFIDF {
	if opts.MaxTerms <= 0 {
		opts.MaxTerms = 50_000
	}
	if opts.MinDocs <= 0 {
		opts.MinDocs = 2
	}
	docs := make(map[string]int) // items that have the word
	for i := range items {
		for word := range countWords(&items[i]) {
			docs[word]++
		}
	}
	t := &TFIDF{terms: chooseTerms(docs, opts), start: make([]int, 1, len(items)+1)}
	column := make(map[string]int32, len(t.terms))
	idf := make([]float64, len(t.terms))
	for j, term := range t.terms {
		column[term] = int32(j)
		idf[j] = math.Log(float64(1+len(items))/float64(1+docs[term])) + 1
	}
	for i := range items {
		t.appendRow(countWords(&items[i]), column, idf)
	}
	return t
}

// Dims returns the number of items and the number of terms.
func (t *TFIDF) Dims() (items, terms int) { return len(t.start) - 1, len(t.terms) }

// Terms returns the vocabulary: Terms()[j] is the word of column j. The slice
// belongs to t.
func (t *TFIDF) Terms() []string { return t.terms }

// Row returns the columns of item i, ascending, and their weights. The slices
// belong to t.
func (t *TFIDF) Row(i int) (columns []int32, weights []float32) {
	lo, hi := t.start[i], t.start[i+1]
	return t.columns[lo:hi], t.weights[lo:hi]
}

// chooseTerms returns the kept words in alphabetical order.
func chooseTerms(docs map[string]int, opts TFIDFOptions) []string {
	var terms []string
	for term, n := range docs {
		if n >= opts.MinDocs {
			terms = append(terms, term)
		}
	}
	if len(terms) > opts.MaxTerms {
		slices.SortFunc(terms, func(a, b string) int {
			return cmp.Or(cmp.Compare(docs[b], docs[a]), cmp.Compare(a, b))
		})
		terms = slices.Clone(terms[:opts.MaxTerms])
	}
	slices.Sort(terms)
	return terms
}

func (t *TFIDF) appendRow(counts map[string]int, column map[string]int32, idf []float64) {
	first := len(t.columns)
	for word := range counts {
		if j, ok := column[word]; ok {
			t.columns = append(t.columns, j)
		}
	}
	row := t.columns[first:]
	slices.Sort(row)
	squares := 0.0
	for _, j := range row {
		w := float64(counts[t.terms[j]]) * idf[j]
		squares += w * w
	}
	for _, j := range row {
		w := float64(counts[t.terms[j]]) * idf[j]
		t.weights = append(t.weights, float32(w/math.Sqrt(squares)))
	}
	t.start = append(t.start, len(t.columns))
}

// countWords returns how often each word occurs in the texts of item. A word is
// a run of letters, combining marks and numbers of any script, in lower case.
func countWords(item *Item) map[string]int {
	counts := make(map[string]int)
	add := func(text string) {
		for word := range strings.FieldsFuncSeq(text, func(r rune) bool {
			return !unicode.In(r, unicode.L, unicode.M, unicode.N)
		}) {
			counts[strings.ToLower(word)]++
		}
	}
	add(item.Title)
	add(item.Text)
	for _, c := range item.Categories {
		add(c)
	}
	for _, value := range item.Attributes {
		add(value)
	}
	return counts
}
