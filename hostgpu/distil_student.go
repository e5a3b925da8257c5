package hostgpu

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/mat"

	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/internal/vec"
	"github.com/wisp-project/wisp/model"
)

// StudentOptions are the size of a student. A zero field means its default.
type StudentOptions struct {
	Dim       int    `json:"dim"`        // width of the embeddings (192)
	Layers    int    `json:"layers"`     // blocks (3)
	Heads     int    `json:"heads"`      // of attention (as many as make them 32 wide)
	FFN       int    `json:"ffn"`        // inner width (three times Dim)
	Positions int    `json:"positions"`  // longest text in tokens (128)
	Seed      uint64 `json:"model_seed"` // of the weights of the blocks
}

// WithDefaults fills in the fields that are zero.
func (o StudentOptions) WithDefaults() StudentOptions {
	o.Dim = cmp.Or(o.Dim, 192)
	o.Layers = cmp.Or(o.Layers, 3)
	o.Heads = cmp.Or(o.Heads, max(o.Dim/32, 1))
	o.FFN = cmp.Or(o.FFN, 3*o.Dim)
	o.Positions = cmp.Or(o.Positions, 128)
	return o
}

// config is that of a student with the vocabulary of the given size.
func (o StudentOptions) config(vocabulary int) model.TextConfig {
	return model.TextConfig{
		Vocabulary: vocabulary, Positions: o.Positions, MaxTokens: o.Positions, Types: 1, Dim: o.Dim, Layers: o.Layers, Heads: o.Heads, FFN: o.FFN,
		NormEpsilon: 1e-12, Pooling: model.PoolMean, Normalise: true,
	}
}

// Validate reports the first option that no student can have.
func (o StudentOptions) Validate() error {
	if err := o.WithDefaults().config(1).Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrOptions, err)
	}
	return nil
}

// TokenVectors returns what a teacher says of tokens alone, (len(tokens), Dim): the
// embedding of each between [CLS] and [SEP], less the mean of all, in the Dim
// directions in which they differ most, as many as the teacher has at most. It is
// the first half of how static embeddings are distilled (model2vec, Tulkens and
// van Dongen 2024).
func TokenVectors(ctx context.Context, teacher *model.TextModel, special tokenize.SpecialIDs, tokens []int32, dim int) (*model.Tensor, error) {
	e, n := teacher.Config.Dim, len(tokens)
	if dim < 1 || dim > e || n == 0 {
		return nil, fmt.Errorf("%w: vectors of %d tokens with %d values; the teacher's have %d", ErrOptions, n, dim, e)
	}
	texts := make([][]int32, n)
	for i, id := range tokens {
		texts[i] = []int32{special.Class, id, special.Separator}
	}
	x := make([]float32, n*e)
	if err := NewTextEncoder(teacher, 0).Embed(ctx, x, texts); err != nil {
		return nil, err
	}
	mean := make([]float32, e)
	columnSums(mean, x)
	for i := range n {
		for j, sum := range mean {
			x[i*e+j] -= sum / float32(n)
		}
	}
	directions, err := principal(x, n, e, dim)
	if err != nil {
		return nil, err
	}
	y := model.NewTensor(n, dim)
	gemm(false, false, n, dim, e, 1, x, e, directions, dim, 0, y.Data, dim)
	return y, nil
}

// principal returns the dim directions, as columns of (e, dim), in which the rows
// of x, (n, e), are longest.
func principal(x []float32, n, e, dim int) ([]float32, error) {
	product := make([]float32, e*e)
	gemm(true, false, e, e, n, 1, x, e, x, e, 0, product, e)
	square := mat.NewSymDense(e, nil)
	for i := range e {
		for j := range i + 1 {
			square.SetSym(i, j, float64(product[i*e+j]))
		}
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(square, true) {
		return nil, fmt.Errorf("%w: the principal directions of the teacher's embeddings did not converge", ErrData)
	}
	var vectors mat.Dense
	eigen.VectorsTo(&vectors)
	directions := make([]float32, e*dim)
	for i := range e {
		for j := range dim { // eigenvalues rise
			directions[i*dim+j] = float32(vectors.At(i, e-1-j))
		}
	}
	return directions, nil
}

// wordScale is the root mean square of the values of a new student's embeddings of
// words: a size at which the steps of AdamW count.
const wordScale = 0.1

// NewStudent returns an encoder that has words, (V, Dim), for embeddings of its
// tokens, scaled to a common size, and blocks that add little to them: before any
// training it is about the mean of its words.
func NewStudent(words *model.Tensor, opts StudentOptions) (*model.TextModel, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	o := opts.WithDefaults()
	if len(words.Shape) != 2 || words.Shape[1] != o.Dim {
		return nil, fmt.Errorf("%w: words of shape %v for a student of width %d", ErrOptions, words.Shape, o.Dim)
	}
	c := o.config(words.Shape[0])
	rng := rand.New(rand.NewPCG(o.Seed, 0))
	w := model.Weights{}
	for _, s := range c.Specs() {
		t := model.NewTensor(s.Shape...)
		w[s.Name] = t
	}
	if norm := math.Sqrt(squaredNorm(words.Data) / float64(len(words.Data))); norm > 0 {
		vec.Scale(w[model.TextWord].Data, words.Data, float32(wordScale/norm))
	}
	gains := []string{model.TextNormGain}
	draw := func(name string, share float64) {
		t := w[name]
		std := share / math.Sqrt(float64(t.Shape[1]))
		for i := range t.Data {
			t.Data[i] = float32(std * rng.NormFloat64())
		}
	}
	for l := range c.Layers {
		full := func(name string) string { return model.TextLayerName(l, name) }
		for _, name := range []string{"attn.q.weight", "attn.k.weight", "attn.v.weight", "ffn.up.weight"} {
			draw(full(name), 1)
		}
		for _, name := range []string{"attn.o.weight", "ffn.down.weight"} {
			draw(full(name), 0.2)
		}
		gains = append(gains, full("attn.norm.weight"), full("ffn.norm.weight"))
	}
	for _, name := range gains {
		for i := range w[name].Data {
			w[name].Data[i] = 1
		}
	}
	return model.NewText(c, w)
}
