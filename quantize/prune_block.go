package quantize

import (
	"math"
	"slices"

	"github.com/wisp-project/wisp/model"
)

// blockNames gives a tensor of a transformer block its full name.
type blockNames func(name string) string

// The tensors of a block, of a user tower and of a text encoder alike: those with a row
// for each dimension of the residual stream, those with a column for each, and the rest.
var (
	blockOutputs = []string{"attn.norm.weight", "attn.norm.bias", "attn.o.weight", "attn.o.bias", "ffn.norm.weight", "ffn.norm.bias", "ffn.down.weight", "ffn.down.bias"}
	blockInputs  = []string{"attn.q.weight", "attn.k.weight", "attn.v.weight", "ffn.up.weight"}
	blockBiases  = []string{"attn.q.bias", "attn.k.bias", "attn.v.bias", "ffn.up.bias"}
)

// blockImportance is the sum over all of a block.
func blockImportance(importance model.Weights, block blockNames) float64 {
	sum := 0.0
	for _, name := range slices.Concat(blockOutputs, blockInputs, blockBiases) {
		sum += total(importance[block(name)].Data)
	}
	return sum
}

// addStream adds to sums what a block says of each dimension of the residual stream.
func addStream(sums []float64, importance model.Weights, block blockNames) {
	for _, name := range blockOutputs {
		addTo(sums, byRow(importance[block(name)]))
	}
	for _, name := range blockInputs {
		addTo(sums, byColumn(importance[block(name)]))
	}
}

// blockPruner prunes the blocks of a model, from whose weights those in to are made.
type blockPruner struct {
	from, importance, to model.Weights
	dims                 []int // of the residual stream that stay
	dimWas, dimNow       int
	headsWas, headsNow   int
	ffn                  int // columns of the feed-forward part that stay
}

// prune makes one block of another: the most important heads, of each as many inner
// dimensions as the narrower model has, those of queries with keys and those of values
// with outputs for themselves; and columns of the feed-forward part.
func (p *blockPruner) prune(from, to blockNames) {
	weighed := func(name string) *model.Tensor { return p.importance[from(name)] }
	set := func(name string, rows, columns []int) *model.Tensor {
		t := cut(p.from[from(name)], rows, columns)
		p.to[to(name)] = t
		return t
	}
	for _, name := range []string{"attn.norm.weight", "attn.norm.bias", "attn.o.bias", "ffn.norm.weight", "ffn.norm.bias", "ffn.down.bias"} {
		set(name, p.dims, nil)
	}
	// rows is the importance of the rows of maps and their biases.
	rows := func(maps ...string) []float64 {
		sums := make([]float64, p.from[from(maps[0]+".bias")].Shape[0])
		for _, name := range maps {
			addTo(sums, byRow(weighed(name+".weight")))
			addTo(sums, byRow(weighed(name+".bias")))
		}
		return sums
	}
	matched, passed := rows("attn.q", "attn.k"), rows("attn.v")
	addTo(passed, byColumn(weighed("attn.o.weight")))
	widthWas, widthNow := p.dimWas/p.headsWas, p.dimNow/p.headsNow
	heads := make([]float64, p.headsWas)
	for i := range p.dimWas {
		heads[i/widthWas] += matched[i] + passed[i]
	}
	var in, out []int
	for _, h := range mostImportant(heads, p.headsNow) {
		lo, hi := h*widthWas, (h+1)*widthWas
		for _, j := range mostImportant(matched[lo:hi], widthNow) {
			in = append(in, lo+j)
		}
		for _, j := range mostImportant(passed[lo:hi], widthNow) {
			out = append(out, lo+j)
		}
	}
	// Scores are divided by the root of a head's width.
	root := float32(math.Sqrt(float64(widthNow) / float64(widthWas)))
	scale(set("attn.q.weight", in, p.dims), root)
	scale(set("attn.q.bias", in, nil), root)
	set("attn.k.weight", in, p.dims)
	set("attn.k.bias", in, nil)
	set("attn.v.weight", out, p.dims)
	set("attn.v.bias", out, nil)
	set("attn.o.weight", p.dims, out)

	columns := rows("ffn.up")
	addTo(columns, byColumn(weighed("ffn.down.weight")))
	hidden := mostImportant(columns, p.ffn)
	set("ffn.up.weight", hidden, p.dims)
	set("ffn.up.bias", hidden, nil)
	set("ffn.down.weight", p.dims, hidden)
}
