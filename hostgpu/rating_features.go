package hostgpu

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/wisp-project/wisp/internal/data"
)

// sparseRows is a sparse matrix by rows; its columns are features.
type sparseRows struct {
	columns int
	start   []int // row i is entries start[i] to start[i+1]
	column  []int32
	value   []float32
}

func (s *sparseRows) rows() int { return len(s.start) - 1 }

func (s *sparseRows) row(i int) (columns []int32, values []float32) {
	lo, hi := s.start[i], s.start[i+1]
	return s.column[lo:hi], s.value[lo:hi]
}

// transpose returns the matrix by columns.
func (s *sparseRows) transpose() *sparseRows {
	t := &sparseRows{
		columns: s.rows(), start: make([]int, s.columns+1),
		column: make([]int32, len(s.column)), value: make([]float32, len(s.value)),
	}
	for _, c := range s.column {
		t.start[c+1]++
	}
	for c := range s.columns {
		t.start[c+1] += t.start[c]
	}
	next := slices.Clone(t.start)
	for r := range s.rows() {
		columns, values := s.row(r)
		for k, c := range columns {
			t.column[next[c]], t.value[next[c]] = int32(r), values[k]
			next[c]++
		}
	}
	return t
}

// times computes out = s·table for a table of rows of the given width.
func (s *sparseRows) times(out, table []float32, width int) {
	parallel(s.rows(), func(_, lo, hi int) {
		for r := lo; r < hi; r++ {
			y := out[r*width:][:width]
			clear(y)
			columns, values := s.row(r)
			for k, c := range columns {
				v, x := values[k], table[int(c)*width:][:width]
				for j := range y {
					y[j] += v * x[j]
				}
			}
		}
	})
}

// featureRows collects the features of users or items. Every column is one
// feature; each has a learnt vector and a learnt bias.
type featureRows struct {
	names   map[string]int32
	entries [][]entry // by row
}

type entry struct {
	column int32
	value  float32
}

func newFeatureRows(rows int) *featureRows {
	return &featureRows{names: map[string]int32{}, entries: make([][]entry, rows)}
}

func (f *featureRows) add(row int, name string, value float32) {
	column, ok := f.names[name]
	if !ok {
		column = int32(len(f.names))
		f.names[name] = column
	}
	f.entries[row] = append(f.entries[row], entry{column, value})
}

func (f *featureRows) sparse() *sparseRows {
	s := &sparseRows{columns: len(f.names), start: []int{0}}
	for _, row := range f.entries {
		for _, e := range row {
			s.column, s.value = append(s.column, e.column), append(s.value, e.value)
		}
		s.start = append(s.start, len(s.column))
	}
	return s
}

// addIdentity gives each row a feature of its own, in order: column i is row i.
func (f *featureRows) addIdentity() {
	for i := range f.entries {
		f.add(i, "id\x00"+strconv.Itoa(i), 1)
	}
}

// addSets gives each row its set of partners, the items of a user or the users
// of an item, as features of the given value over the root of their number.
func (f *featureRows) addSets(sets [][]int32, value float64) {
	for i, set := range sets {
		v := float32(value / math.Sqrt(float64(len(set))))
		for _, p := range set {
			f.add(i, "partner\x00"+strconv.Itoa(int(p)), v)
		}
	}
}

// addAttributes gives each row the values of its attributes as features. An
// attribute of numbers is cut into tenths of the rows; other values that fewer
// than minRows rows have are left out, as nothing can be learnt from them.
func (f *featureRows) addAttributes(rows []map[string]string, value float64) {
	const minRows = 5
	v := float32(value)
	byName := map[string][]attributeValue{}
	for i, attributes := range rows {
		for name, text := range attributes {
			if text = strings.TrimSpace(text); text != "" {
				byName[name] = append(byName[name], attributeValue{row: i, text: text})
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		values := byName[name]
		prefix := "attribute\x00" + name + "\x00"
		if numbers(values) {
			slices.SortStableFunc(values, func(a, b attributeValue) int { return cmp.Compare(a.number, b.number) })
			for k, x := range values {
				// Equal numbers share the tenth of the first of them.
				first, _ := slices.BinarySearchFunc(values[:k], x.number, func(y attributeValue, n float64) int { return cmp.Compare(y.number, n) })
				f.add(x.row, prefix+strconv.Itoa(first*10/len(values)), v)
			}
			continue
		}
		count := map[string]int{}
		for _, x := range values {
			count[x.text]++
		}
		for _, x := range values {
			if count[x.text] >= minRows {
				f.add(x.row, prefix+x.text, v)
			}
		}
	}
}

// attributeValue is the value that a row has of some attribute.
type attributeValue struct {
	row    int
	text   string
	number float64
}

// numbers fills in the number of each value and reports whether all have one.
func numbers(values []attributeValue) bool {
	for i := range values {
		n, err := strconv.ParseFloat(values[i].text, 64)
		if err != nil || math.IsNaN(n) {
			return false
		}
		values[i].number = n
	}
	return true
}

// addText gives each item the words of its title, text, categories and
// attributes as features, weighted by TF-IDF.
func (f *featureRows) addText(items []data.Item, value float64) {
	t := data.FitTFIDF(items, data.TFIDFOptions{MinDocs: 5})
	for i := range items {
		columns, weights := t.Row(i)
		for k, c := range columns {
			f.add(i, "word\x00"+strconv.Itoa(int(c)), float32(value)*weights[k])
		}
	}
}

// ratingFeatures makes the features of users and items. Which user rated which
// item is taken from x alone.
func ratingFeatures(users []data.User, items []data.Item, x *ratingExamples, opts RatingOptions) (byUser, byItem *sparseRows) {
	itemsOf, usersOf := make([][]int32, len(x.byUser)-1), make([][]int32, len(items))
	for i, u := range x.user {
		v := x.item[i]
		itemsOf[u], usersOf[v] = append(itemsOf[u], v), append(usersOf[v], u)
	}
	uf, vf := newFeatureRows(len(itemsOf)), newFeatureRows(len(items))
	uf.addIdentity()
	vf.addIdentity()
	if opts.Partners > 0 {
		uf.addSets(itemsOf, opts.Partners)
		vf.addSets(usersOf, opts.Partners)
	}
	if opts.Attributes > 0 {
		of := make([]map[string]string, len(users))
		for i := range users {
			of[i] = users[i].Attributes
		}
		uf.addAttributes(of, opts.Attributes)
		of = make([]map[string]string, len(items))
		for i := range items {
			of[i] = items[i].Attributes
			for _, c := range items[i].Categories {
				vf.add(i, "category\x00"+c, float32(opts.Attributes))
			}
		}
		vf.addAttributes(of, opts.Attributes)
	}
	if opts.Text > 0 {
		vf.addText(items, opts.Text)
	}
	return uf.sparse(), vf.sparse()
}
