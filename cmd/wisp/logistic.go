package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/gonum/floats"
)

// sparseRows are rows of features; row i has the entries start[i] to start[i+1].
type sparseRows struct {
	start   []int
	columns []int32
	values  []float64
	width   int // columns of a row
}

// dot is the product of row i with w.
func (s *sparseRows) dot(i int, w []float64) float64 {
	sum := 0.0
	for k := s.start[i]; k < s.start[i+1]; k++ {
		sum += w[s.columns[k]] * s.values[k]
	}
	return sum
}

// denseRows holds the given rows of x, which are width values each.
func denseRows(x []float32, width int, rows []int) *sparseRows {
	s := &sparseRows{start: []int{0}, width: width}
	for _, i := range rows {
		for j, v := range x[i*width : (i+1)*width] {
			s.columns, s.values = append(s.columns, int32(j)), append(s.values, float64(v))
		}
		s.start = append(s.start, len(s.columns))
	}
	return s
}

// bagOfWords makes rows of texts: TF-IDF of words and of pairs of neighbouring
// words, scaled to length 1.
type bagOfWords struct {
	column map[string]int32
	idf    []float64
}

// newBagOfWords counts the words and pairs of texts; those in one text only are
// left out.
func newBagOfWords(texts []string) *bagOfWords {
	docs := map[string]int{}
	for _, text := range texts {
		for term := range termCounts(text) {
			docs[term]++
		}
	}
	var terms []string
	for term, n := range docs {
		if n > 1 {
			terms = append(terms, term)
		}
	}
	slices.Sort(terms)
	b := &bagOfWords{column: make(map[string]int32, len(terms))}
	for j, term := range terms {
		b.column[term] = int32(j)
		b.idf = append(b.idf, math.Log(float64(1+len(texts))/float64(1+docs[term]))+1)
	}
	return b
}

// termCounts counts the words of text, which spaces divide, and their pairs.
func termCounts(text string) map[string]int {
	counts := map[string]int{}
	before := ""
	for word := range strings.FieldsSeq(strings.ToLower(text)) {
		counts[word]++
		if before != "" {
			counts[before+" "+word]++
		}
		before = word
	}
	return counts
}

// rows makes a row of each text; unknown words are passed over.
func (b *bagOfWords) rows(texts []string) *sparseRows {
	type entry struct {
		column int32
		value  float64
	}
	s := &sparseRows{start: []int{0}, width: len(b.idf)}
	for _, text := range texts {
		var row []entry
		squares := 0.0
		for term, n := range termCounts(text) {
			if j, ok := b.column[term]; ok {
				row = append(row, entry{j, float64(n) * b.idf[j]})
			}
		}
		slices.SortFunc(row, func(a, b entry) int { return cmp.Compare(a.column, b.column) })
		for _, e := range row {
			squares += e.value * e.value
		}
		for _, e := range row {
			s.columns, s.values = append(s.columns, e.column), append(s.values, e.value/math.Sqrt(squares))
		}
		s.start = append(s.start, len(s.columns))
	}
	return s
}

// addTo adds row i times factor to w.
func (s *sparseRows) addTo(w []float64, i int, factor float64) {
	for k := s.start[i]; k < s.start[i+1]; k++ {
		w[s.columns[k]] += factor * s.values[k]
	}
}

// logistic is a logistic regression in two classes.
type logistic struct {
	weights []float64 // one a column, then the bias
}

// fitLogistic minimises the mean log loss of the rows' classes, 0 or 1, plus
// l2/2 times the squared length of the weights without the bias, by a Newton
// method whose steps are found by conjugate gradients (Lin, Weng and Keerthi
// 2008). The gradient's length falls to a ten-thousandth of the first.
func fitLogistic(ctx context.Context, x *sparseRows, classes []int, l2 float64) (*logistic, error) {
	n := len(x.start) - 1
	if n == 0 || n != len(classes) || l2 <= 0 {
		return nil, fmt.Errorf("logistic regression: %d rows, the classes of %d, weight of L2 %v; want as many of each, at least 1, and a weight above 0", n, len(classes), l2)
	}
	p := &logisticLoss{x: x, classes: classes, l2: l2, curvature: make([]float64, n)}
	w, grad := make([]float64, x.width+1), make([]float64, x.width+1)
	next, step := slices.Clone(w), slices.Clone(w)
	loss := p.gradient(grad, w)
	first := floats.Norm(grad, 2)
	for range 100 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if floats.Norm(grad, 2) <= 1e-4*first {
			break
		}
		p.newtonStep(step, grad)
		// The full step, or half of it as often as needed for the loss to fall by
		// a part of what the slope promises.
		slope, length := floats.Dot(grad, step), 1.0
		for ; length > 1e-6; length /= 2 {
			floats.AddScaledTo(next, w, length, step)
			if l := p.gradient(grad, next); l <= loss+1e-4*length*slope {
				loss = l
				break
			}
		}
		if length <= 1e-6 { // as good as float64 allows
			break
		}
		copy(w, next)
	}
	return &logistic{weights: w}, nil
}

// logisticLoss is what fitLogistic minimises.
type logisticLoss struct {
	x         *sparseRows
	classes   []int
	l2        float64
	curvature []float64 // of each row's loss at the point of the last gradient
}

// gradient returns the loss at w and overwrites grad.
func (p *logisticLoss) gradient(grad, w []float64) float64 {
	bias := p.x.width
	clear(grad)
	loss, n := 0.0, float64(len(p.classes))
	for i, class := range p.classes {
		sign := float64(2*class - 1)
		z := sign * (p.x.dot(i, w) + w[bias])
		loss += max(-z, 0) + math.Log1p(math.Exp(-math.Abs(z)))
		wrong := 1 / (1 + math.Exp(z)) // the probability of the other class
		p.curvature[i] = wrong * (1 - wrong) / n
		p.x.addTo(grad, i, -sign*wrong/n)
		grad[bias] -= sign * wrong / n
	}
	loss /= n
	floats.AddScaled(grad[:bias], p.l2, w[:bias])
	return loss + p.l2/2*floats.Dot(w[:bias], w[:bias])
}

// newtonStep solves H·step = -grad, H being the second derivative, to a tenth of
// the length of grad.
func (p *logisticLoss) newtonStep(step, grad []float64) {
	clear(step)
	rest := slices.Clone(grad) // grad + H·step, with the sign turned
	floats.Scale(-1, rest)
	direction, curved := slices.Clone(rest), make([]float64, len(rest))
	square := floats.Dot(rest, rest)
	end := 0.01 * square
	for range 200 {
		if square <= end {
			return
		}
		p.curve(curved, direction)
		bend := floats.Dot(direction, curved)
		if bend <= 0 { // flat but for rounding
			return
		}
		alpha := square / bend
		floats.AddScaled(step, alpha, direction)
		floats.AddScaled(rest, -alpha, curved)
		before := square
		square = floats.Dot(rest, rest)
		floats.Scale(square/before, direction)
		floats.Add(direction, rest)
	}
}

// curve writes H·v to out.
func (p *logisticLoss) curve(out, v []float64) {
	bias := p.x.width
	clear(out)
	for i, c := range p.curvature {
		c *= p.x.dot(i, v) + v[bias]
		p.x.addTo(out, i, c)
		out[bias] += c
	}
	floats.AddScaled(out[:bias], p.l2, v[:bias])
}

// predict returns the more probable class of each row.
func (l *logistic) predict(x *sparseRows) []int {
	classes := make([]int, len(x.start)-1)
	for i := range classes {
		if x.dot(i, l.weights)+l.weights[x.width] > 0 {
			classes[i] = 1
		}
	}
	return classes
}
