package quantize

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/wisp-project/wisp/model"
)

// PruneOptions are the sizes of a pruned model; 0 keeps what there is.
type PruneOptions struct {
	Layers int `json:"layers"` // transformer blocks
	FFN    int `json:"ffn"`    // inner width of their feed-forward parts
	Dim    int `json:"dim"`    // width of items, users and the residual stream
}

// Prune returns what is left of the towers of m when the least important structures
// are taken away, smaller matrices and no masks: whole blocks; of each that stays the
// columns of its feed-forward part; and dimensions of the residual stream, with as many
// from the inner products of each attention head, those of queries with keys and those of
// values with outputs for themselves. importance has a number for each weight (see
// hostgpu.Trainer.Importance); that of a structure is the sum over its weights. Heads are
// not taken away: a head is as wide as the model by the number of heads, so that of a
// model with one there would be none, and a narrower model has narrower ones.
//
// A weight that multiplies the square root of a width which shrank is scaled by what
// that changed. What comes out still has to recover by training.
func Prune(m *model.Model, importance model.Weights, o PruneOptions) (model.Config, model.Weights, error) {
	was := m.Config
	c := was
	c.Layers, c.FFN, c.Dim = cmp.Or(o.Layers, c.Layers), cmp.Or(o.FFN, c.FFN), cmp.Or(o.Dim, c.Dim)
	if err := c.Validate(); err != nil {
		return c, nil, fmt.Errorf("%w: %w", ErrPrune, err)
	}
	if c.Layers > was.Layers || c.FFN > was.FFN || c.Dim > was.Dim {
		return c, nil, fmt.Errorf("%w: %d layers, feed-forward width %d and width %d of a model with %d, %d and %d; pruning only takes away",
			ErrPrune, c.Layers, c.FFN, c.Dim, was.Layers, was.FFN, was.Dim)
	}
	if err := importance.Check(was); err != nil {
		return c, nil, fmt.Errorf("%w: importance: %w", ErrPrune, err)
	}
	layers := make([]float64, was.Layers)
	for l := range layers {
		layers[l] = blockImportance(importance, towerBlock(l)) + total(importance[towerBlock(l)(distanceBias)].Data)
	}
	kept := mostImportant(layers, c.Layers)
	d := mostImportant(towerDimensions(importance, was, kept), c.Dim)

	w := model.Weights{}
	w[model.ItemEmbedding] = cut(m.Weights[model.ItemEmbedding], nil, d)
	if c.Features > 0 {
		w[model.ItemFeatures] = cut(m.Weights[model.ItemFeatures], d, nil)
	}
	w[model.UserType], w[model.UserGap] = cut(m.Weights[model.UserType], nil, d), cut(m.Weights[model.UserGap], nil, d)
	for _, name := range []string{model.UserNormGain, model.UserNormBias, model.UserCold} {
		w[name] = cut(m.Weights[name], d, nil)
	}
	if c.Descriptions > 0 {
		w[model.UserDescription] = cut(m.Weights[model.UserDescription], d, nil)
	}
	b := blockPruner{from: m.Weights, importance: importance, to: w, dims: d, dimWas: was.Dim, dimNow: c.Dim, headsWas: was.Heads, headsNow: c.Heads, ffn: c.FFN}
	for to, from := range kept {
		b.prune(towerBlock(from), towerBlock(to))
		w[towerBlock(to)(distanceBias)] = cut(m.Weights[towerBlock(from)(distanceBias)], nil, nil)
	}
	// The tower reads sqrt(D)·v, and scores are u·v: what v gains u loses.
	gain := float32(math.Sqrt(float64(was.Dim) / float64(c.Dim)))
	for _, name := range []string{model.ItemEmbedding, model.ItemFeatures} {
		scale(w[name], gain)
	}
	for _, name := range []string{model.UserNormGain, model.UserNormBias, model.UserCold, model.UserDescription} {
		scale(w[name], 1/gain)
	}
	return c, w, nil
}

// distanceBias is the tensor that a block of the user tower has beside those of any.
const distanceBias = "attn.distance.bias"

// towerBlock names the tensors of block l.
func towerBlock(l int) blockNames {
	return func(name string) string { return model.LayerName(l, name) }
}

// towerDimensions returns the importance of each dimension of the residual stream of a
// model, with the given blocks.
func towerDimensions(importance model.Weights, c model.Config, layers []int) []float64 {
	sums := make([]float64, c.Dim)
	rows := func(name string) { addTo(sums, byRow(importance[name])) }
	columns := func(name string) { addTo(sums, byColumn(importance[name])) }
	columns(model.ItemEmbedding)
	columns(model.UserType)
	columns(model.UserGap)
	rows(model.UserNormGain)
	rows(model.UserNormBias)
	if c.Features > 0 {
		rows(model.ItemFeatures)
	}
	if c.Descriptions > 0 {
		rows(model.UserDescription)
	}
	for _, l := range layers {
		addStream(sums, importance, towerBlock(l))
	}
	return sums
}

// cut returns the given rows and columns of t, nil for all; a vector has rows only.
func cut(t *model.Tensor, rows, columns []int) *model.Tensor {
	width := 1
	if len(t.Shape) > 1 {
		width = t.Shape[1]
	}
	if rows == nil {
		rows = upTo(t.Shape[0])
	}
	if columns == nil {
		columns = upTo(width)
	}
	shape := []int{len(rows)}
	if len(t.Shape) > 1 {
		shape = append(shape, len(columns))
	}
	c := model.NewTensor(shape...)
	for i, r := range rows {
		for j, k := range columns {
			c.Data[i*len(columns)+j] = t.Data[r*width+k]
		}
	}
	return c
}

func upTo(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// mostImportant returns the places of the n largest values, in ascending order; of
// equal ones those that come first.
func mostImportant(values []float64, n int) []int {
	order := upTo(len(values))
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(values[b], values[a]) })
	order = order[:n]
	slices.Sort(order)
	return order
}

func byRow(t *model.Tensor) []float64 {
	width := len(t.Data) / t.Shape[0]
	sums := make([]float64, t.Shape[0])
	for i := range sums {
		sums[i] = total(t.Data[i*width : (i+1)*width])
	}
	return sums
}

func byColumn(t *model.Tensor) []float64 {
	sums := make([]float64, t.Shape[1])
	for i, v := range t.Data {
		sums[i%len(sums)] += float64(v)
	}
	return sums
}

func addTo(sums, values []float64) {
	for i, v := range values {
		sums[i] += v
	}
}

func total(x []float32) float64 {
	var sum float64
	for _, v := range x {
		sum += float64(v)
	}
	return sum
}

func scale(t *model.Tensor, by float32) {
	if t == nil || by == 1 {
		return
	}
	for i := range t.Data {
		t.Data[i] *= by
	}
}
