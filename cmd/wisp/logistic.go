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

// logistic is a logistic regression in two classes or more. The first class is the one
// that the others are told from: its logit is 0.
type logistic struct {
	weights []float64 // for each class behind the first: one a column, then the bias
}

// fitLogistic minimises the mean log loss of the rows' classes, counted from 0, plus
// l2/2 times the squared length of the weights without the biases, by a Newton
// method whose steps are found by conjugate gradients (Lin, Weng and Keerthi
// 2008). The gradient's length falls to a ten-thousandth of the first.
func fitLogistic(ctx context.Context, x *sparseRows, classes []int, l2 float64) (*logistic, error) {
	n := len(x.start) - 1
	if n == 0 || n != len(classes) || !(l2 > 0) || math.IsInf(l2, 0) {
		return nil, fmt.Errorf("logistic regression: %d rows, the classes of %d, weight of L2 %v; want as many of each, at least 1, and a weight above 0", n, len(classes), l2)
	}
	others := max(slices.Max(classes), 1) // classes behind the first
	p := &logisticLoss{x: x, classes: classes, l2: l2, others: others, probabilities: make([]float64, n*others), z: make([]float64, others)}
	w, grad := make([]float64, others*(x.width+1)), make([]float64, others*(x.width+1))
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
	x             *sparseRows
	classes       []int
	l2            float64
	others        int
	probabilities []float64 // (rows, others) at the point of the last gradient
	z             []float64 // (others)
}

// gradient returns the loss at w and overwrites grad.
func (p *logisticLoss) gradient(grad, w []float64) float64 {
	clear(grad)
	loss, n := 0.0, float64(len(p.classes))
	for i, class := range p.classes {
		z := p.probabilities[i*p.others:][:p.others]
		(&logistic{w}).logits(z, p.x, i)
		top := max(slices.Max(z), 0)
		sum := math.Exp(-top)
		for _, v := range z {
			sum += math.Exp(v - top)
		}
		loss += top + math.Log(sum)
		if class > 0 {
			loss -= z[class-1]
		}
		for k := range z {
			z[k] = math.Exp(z[k]-top) / sum
			wrong := z[k]
			if k+1 == class {
				wrong--
			}
			p.addTo(grad, i, k, wrong/n)
		}
	}
	return loss/n + p.penalty(grad, w)
}

// penalty returns that of the weights and adds its gradient to grad.
func (p *logisticLoss) penalty(grad, w []float64) float64 {
	square, size := 0.0, p.x.width+1
	for k := range p.others {
		row := w[k*size:][:p.x.width]
		floats.AddScaled(grad[k*size:][:p.x.width], p.l2, row)
		square += floats.Dot(row, row)
	}
	return p.l2 / 2 * square
}

// addTo adds row i and the one of the bias, times factor, to the weights of other k.
func (p *logisticLoss) addTo(w []float64, i, k int, factor float64) {
	size := p.x.width + 1
	p.x.addTo(w[k*size:][:size], i, factor)
	w[k*size+p.x.width] += factor
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
	clear(out)
	n := float64(len(p.classes))
	for i := range p.classes {
		(&logistic{v}).logits(p.z, p.x, i)
		probabilities := p.probabilities[i*p.others:][:p.others]
		mean := floats.Dot(probabilities, p.z)
		for k, y := range probabilities {
			p.addTo(out, i, k, y*(p.z[k]-mean)/n)
		}
	}
	p.penalty(out, v)
}

// logits writes those of the classes behind the first to z, for row i.
func (l *logistic) logits(z []float64, x *sparseRows, i int) {
	size := x.width + 1
	for k := range z {
		w := l.weights[k*size:][:size]
		z[k] = x.dot(i, w) + w[x.width]
	}
}

// predict returns the most probable class of each row.
func (l *logistic) predict(x *sparseRows) []int {
	classes, z := make([]int, len(x.start)-1), make([]float64, len(l.weights)/(x.width+1))
	for i := range classes {
		l.logits(z, x, i)
		if k := floats.MaxIdx(z); z[k] > 0 {
			classes[i] = k + 1
		}
	}
	return classes
}
