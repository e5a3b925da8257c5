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
	p := pruner{from: m.Weights, importance: importance, was: was, now: c}

	layers := make([]float64, was.Layers)
	for l := range layers {
		for name, x := range importance {
			if p.inBlock(name, l) {
				layers[l] += total(x.Data)
			}
		}
	}
	kept := mostImportant(layers, c.Layers)
	p.dims = mostImportant(p.dimensions(kept), c.Dim)

	w := model.Weights{}
	d := p.dims
	w[model.ItemEmbedding] = cut(p.from[model.ItemEmbedding], nil, d)
	if c.Features > 0 {
		w[model.ItemFeatures] = cut(p.from[model.ItemFeatures], d, nil)
	}
	w[model.UserType], w[model.UserGap] = cut(p.from[model.UserType], nil, d), cut(p.from[model.UserGap], nil, d)
	for _, name := range []string{model.UserNormGain, model.UserNormBias, model.UserCold} {
		w[name] = cut(p.from[name], d, nil)
	}
	if c.Descriptions > 0 {
		w[model.UserDescription] = cut(p.from[model.UserDescription], d, nil)
	}
	for to, from := range kept {
		p.block(w, from, to)
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

// pruner prunes one model.
type pruner struct {
	from, importance model.Weights
	was, now         model.Config
	dims             []int // of the residual stream that stay
}

// inBlock says that a tensor belongs to block l.
func (p *pruner) inBlock(name string, l int) bool {
	for _, s := range blockTensors {
		if name == model.LayerName(l, s) {
			return true
		}
	}
	return false
}

var blockTensors = []string{
	"attn.norm.weight", "attn.norm.bias", "attn.q.weight", "attn.q.bias", "attn.k.weight", "attn.k.bias", "attn.v.weight", "attn.v.bias",
	"attn.o.weight", "attn.o.bias", "attn.distance.bias", "ffn.norm.weight", "ffn.norm.bias", "ffn.up.weight", "ffn.up.bias", "ffn.down.weight", "ffn.down.bias",
}

// dimensions returns the importance of each dimension of the residual stream, with the
// given blocks.
func (p *pruner) dimensions(layers []int) []float64 {
	sums := make([]float64, p.was.Dim)
	rows := func(name string) { addTo(sums, byRow(p.importance[name])) }
	columns := func(name string) { addTo(sums, byColumn(p.importance[name])) }
	columns(model.ItemEmbedding)
	columns(model.UserType)
	columns(model.UserGap)
	rows(model.UserNormGain)
	rows(model.UserNormBias)
	if p.was.Features > 0 {
		rows(model.ItemFeatures)
	}
	if p.was.Descriptions > 0 {
		rows(model.UserDescription)
	}
	for _, l := range layers {
		for _, name := range []string{"attn.norm.weight", "attn.norm.bias", "attn.o.weight", "attn.o.bias", "ffn.norm.weight", "ffn.norm.bias", "ffn.down.weight", "ffn.down.bias"} {
			rows(model.LayerName(l, name))
		}
		for _, name := range []string{"attn.q.weight", "attn.k.weight", "attn.v.weight", "ffn.up.weight"} {
			columns(model.LayerName(l, name))
		}
	}
	return sums
}

// block prunes block from into block to of w.
func (p *pruner) block(w model.Weights, from, to int) {
	old := func(name string) *model.Tensor { return p.from[model.LayerName(from, name)] }
	weighed := func(name string) *model.Tensor { return p.importance[model.LayerName(from, name)] }
	set := func(name string, rows, columns []int) *model.Tensor {
		t := cut(old(name), rows, columns)
		w[model.LayerName(to, name)] = t
		return t
	}
	for _, name := range []string{"attn.norm.weight", "attn.norm.bias", "attn.o.bias", "ffn.norm.weight", "ffn.norm.bias", "ffn.down.bias"} {
		set(name, p.dims, nil)
	}
	set("attn.distance.bias", nil, nil)

	// Of each head as many inner dimensions as the narrower model has.
	headWas, headNow := p.was.Dim/p.was.Heads, p.now.Dim/p.now.Heads
	inner := func(in []string, out string) []int {
		sums := make([]float64, p.was.Dim)
		for _, name := range in {
			addTo(sums, byRow(weighed(name+".weight")))
			addTo(sums, byRow(weighed(name+".bias")))
		}
		if out != "" {
			addTo(sums, byColumn(weighed(out)))
		}
		var kept []int
		for h := range p.was.Heads {
			for _, j := range mostImportant(sums[h*headWas:(h+1)*headWas], headNow) {
				kept = append(kept, h*headWas+j)
			}
		}
		return kept
	}
	matched := inner([]string{"attn.q", "attn.k"}, "")
	passed := inner([]string{"attn.v"}, "attn.o.weight")
	set("attn.k.weight", matched, p.dims)
	set("attn.k.bias", matched, nil)
	// Scores are divided by the root of a head's width.
	root := float32(math.Sqrt(float64(headNow) / float64(headWas)))
	scale(set("attn.q.weight", matched, p.dims), root)
	scale(set("attn.q.bias", matched, nil), root)
	set("attn.v.weight", passed, p.dims)
	set("attn.v.bias", passed, nil)
	set("attn.o.weight", p.dims, passed)

	sums := make([]float64, p.was.FFN)
	addTo(sums, byRow(weighed("ffn.up.weight")))
	addTo(sums, byRow(weighed("ffn.up.bias")))
	addTo(sums, byColumn(weighed("ffn.down.weight")))
	hidden := mostImportant(sums, p.now.FFN)
	set("ffn.up.weight", hidden, p.dims)
	set("ffn.up.bias", hidden, nil)
	set("ffn.down.weight", p.dims, hidden)
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
