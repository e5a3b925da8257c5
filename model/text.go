package model

import (
	"fmt"
	"math"
)

// TextModel is a text encoder: a configuration with its weights. It is safe for
// concurrent use as long as nobody writes to the weights.
type TextModel struct {
	Config  TextConfig
	Weights Weights
	// Masked is the masked-language head that the encoder was pretrained with, the
	// tensors of Config.MaskedSpecs; nil where it came without one.
	Masked Weights
}

// NewText checks w against c. The weights are kept, not copied.
func NewText(c TextConfig, w Weights) (*TextModel, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if err := w.Check(c); err != nil {
		return nil, err
	}
	return &TextModel{Config: c, Weights: w}, nil
}

// Embed returns the vector, (D), of a text given as token ids, [CLS] and [SEP]
// included. It is an error if there are none, more than Config.Positions, or
// one outside the vocabulary.
//
//	x_t = norm(word + position + type 0)
//	x_t = norm(x_t + O·attention(x)_t)          over all positions
//	x_t = norm(x_t + down·gelu(up·x_t))
//	y   = mean of x_t, or x_0; scaled to length 1 where Config.Normalise
func (m *TextModel) Embed(ids []int32) ([]float32, error) {
	c, w := m.Config, m.Weights
	if err := c.CheckTokens(ids); err != nil {
		return nil, err
	}
	x := make([][]float32, len(ids)) // (T, D)
	for t, id := range ids {
		x[t] = make([]float32, c.Dim)
		word, position, kind := w[TextWord].Row(int(id)), w[TextPosition].Row(t), w[TextType].Row(0)
		for d := range x[t] {
			x[t][d] = word[d] + position[d] + kind[d]
		}
		m.norm(x[t], TextNormGain, TextNormBias)
	}
	for l := range c.Layers {
		m.attention(l, x)
		m.feedForward(l, x)
	}
	return m.pool(x), nil
}

// CheckTokens reports why ids are no text that an encoder of configuration c
// can read, or nil.
func (c TextConfig) CheckTokens(ids []int32) error {
	if len(ids) == 0 || len(ids) > c.Positions {
		return fmt.Errorf("%w: a text of %d tokens, the text encoder takes 1 to %d; cut it when it is tokenized", ErrInput, len(ids), c.Positions)
	}
	for t, id := range ids {
		if id < 0 || int(id) >= c.Vocabulary {
			return fmt.Errorf("%w: token %d is %d, the text encoder has a vocabulary of %d; is the tokenizer that of the model?", ErrInput, t, id, c.Vocabulary)
		}
	}
	return nil
}

// norm normalises x in place with the named gain and bias.
func (m *TextModel) norm(x []float32, gain, bias string) {
	norm(x, x, m.Weights[gain].Data, m.Weights[bias].Data, float32(m.Config.NormEpsilon))
}

// attention applies the first half of block l to x, (T, D), in place.
func (m *TextModel) attention(l int, x [][]float32) {
	c := m.Config
	p := func(name string) *Tensor { return m.Weights[TextLayerName(l, name)] }
	T, D, dh := len(x), c.Dim, c.Dim/c.Heads
	q, k, v := make([][]float32, T), make([][]float32, T), make([][]float32, T)
	for t := range x {
		q[t], k[t], v[t] = make([]float32, D), make([]float32, D), make([]float32, D)
		linear(q[t], p("attn.q.weight"), p("attn.q.bias"), x[t], false)
		linear(k[t], p("attn.k.weight"), p("attn.k.bias"), x[t], false)
		linear(v[t], p("attn.v.weight"), p("attn.v.bias"), x[t], false)
	}
	scale := float32(1 / math.Sqrt(float64(dh)))
	scores := make([]float32, T)
	for t := range x {
		o := make([]float32, D)
		for lo := 0; lo < D; lo += dh { // one head after the other
			hi := lo + dh
			best := float32(math.Inf(-1))
			for s := range T {
				scores[s] = dot(q[t][lo:hi], k[s][lo:hi]) * scale
				best = max(best, scores[s])
			}
			var sum float32
			for s := range T {
				scores[s] = float32(math.Exp(float64(scores[s] - best)))
				sum += scores[s]
			}
			for s := range T {
				for d := lo; d < hi; d++ {
					o[d] += scores[s] / sum * v[s][d]
				}
			}
		}
		linear(x[t], p("attn.o.weight"), p("attn.o.bias"), o, true)
		m.norm(x[t], TextLayerName(l, "attn.norm.weight"), TextLayerName(l, "attn.norm.bias"))
	}
}

// feedForward applies the second half of block l to x, (T, D), in place.
func (m *TextModel) feedForward(l int, x [][]float32) {
	p := func(name string) *Tensor { return m.Weights[TextLayerName(l, name)] }
	hidden := make([]float32, m.Config.FFN)
	for t := range x {
		linear(hidden, p("ffn.up.weight"), p("ffn.up.bias"), x[t], false)
		for i, h := range hidden {
			hidden[i] = gelu(h)
		}
		linear(x[t], p("ffn.down.weight"), p("ffn.down.bias"), hidden, true)
		m.norm(x[t], TextLayerName(l, "ffn.norm.weight"), TextLayerName(l, "ffn.norm.bias"))
	}
}

// pool makes one vector of those of the tokens.
func (m *TextModel) pool(x [][]float32) []float32 {
	y := make([]float32, m.Config.Dim)
	switch m.Config.Pooling {
	case PoolCLS:
		copy(y, x[0])
	case PoolMean:
		for _, row := range x {
			for d, v := range row {
				y[d] += v / float32(len(x))
			}
		}
	}
	if m.Config.Normalise {
		length := float32(math.Sqrt(float64(dot(y, y))))
		for d := range y {
			y[d] /= max(length, TextLengthFloor)
		}
	}
	return y
}

// TextLengthFloor is the least length by which an embedding is divided when it
// is normalised, so that a vector of zeros stays one.
const TextLengthFloor = 1e-12

// gelu is the Gaussian error linear unit (Hendrycks and Gimpel 2016):
// x times the share of a standard normal distribution below x.
func gelu(x float32) float32 {
	return x / 2 * float32(1+math.Erf(float64(x)/math.Sqrt2))
}
