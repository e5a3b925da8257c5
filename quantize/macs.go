package quantize

import (
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/model"
)

// MACs are the multiply-accumulates that one request takes: each is a product
// that is added to a sum, two floating-point operations where it is of floats.
// Normalisations, activations and softmaxes are not counted, nor is padding.
type MACs struct {
	Linear    int64 `json:"linear"`    // weights times activations
	Attention int64 `json:"attention"` // queries times keys, and attention weights times values
	Items     int64 `json:"items"`     // the vector of the request times the rows of the catalogue
}

// Total returns all of them.
func (m MACs) Total() int64 { return m.Linear + m.Attention + m.Items }

// RequestMACs counts a request to rank all items by a history of the given number
// of events for an image of shape s. As internal/q8 does, it counts the events
// that the answer depends on, in each block fewer than in the one before; a
// history longer than s.Reach is cut. A description is not counted: see TextMACs.
func RequestMACs(s layout.Shape, events int) MACs {
	t := min(max(events, 0), s.Reach())
	m := MACs{Items: int64(s.Items) * int64(s.Dim)}
	for l := range s.Layers {
		out := max(0, t-((s.Layers-1-l)*(s.Window-1)+1)) // first position of which the output is needed
		in := max(0, out-(s.Window-1))                   // and of which the keys are
		m.add(blockMACs(s.Dim, s.FFN, t-in, t-out))
		m.Attention += bandedMACs(s.Dim, s.Window, out, t)
	}
	return m
}

// ModelMACs counts the same request for the float32 model of configuration c,
// which computes every block for every event within reach (model.Model.User), and
// adds the vector of a description where it reads one.
func ModelMACs(c model.Config, events int) MACs {
	t := min(max(events, 0), c.Reach())
	m := MACs{Items: int64(c.Items) * int64(c.Dim), Linear: int64(c.Descriptions) * int64(c.Dim)}
	for range c.Layers {
		m.add(blockMACs(c.Dim, c.FFN, t, t))
		m.Attention += bandedMACs(c.Dim, c.Window, 0, t)
	}
	return m
}

// TextMACs counts the encoding of a text of the given number of tokens, [CLS] and
// [SEP] included.
func TextMACs(c model.TextConfig, tokens int) MACs {
	var m MACs
	for range c.Layers {
		m.add(blockMACs(c.Dim, c.FFN, tokens, tokens))
		m.Attention += 2 * int64(tokens) * int64(tokens) * int64(c.Dim)
	}
	return m
}

// EncoderMACs is TextMACs for the text encoder of an image.
func EncoderMACs(t layout.TextShape, tokens int) MACs {
	return TextMACs(model.TextConfig{Dim: t.Dim, Layers: t.Layers, FFN: t.FFN}, min(tokens, t.Tokens))
}

// blockMACs counts the linear maps of a transformer block: keys and values (and the
// queries beside them) at in positions, the rest at out of them.
func blockMACs(dim, ffn, in, out int) MACs {
	d, f := int64(dim), int64(ffn)
	return MACs{Linear: int64(in)*3*d*d + int64(out)*(d*d+2*d*f)}
}

// bandedMACs counts the attention of all heads at positions from … to-1, each over
// itself and what is before it within the window.
func bandedMACs(dim, window, from, to int) int64 {
	var pairs int64
	for t := from; t < to; t++ {
		pairs += int64(min(t+1, window))
	}
	return 2 * pairs * int64(dim)
}

func (m *MACs) add(n MACs) {
	m.Linear += n.Linear
	m.Attention += n.Attention
	m.Items += n.Items
}

// Parameters returns the number of parameters of an image of shape s: weights,
// biases, gains and embeddings, the vectors of the items among them. Scales of
// quantization are none, nor is padding; the vectors of the items' texts are data.
func Parameters(s layout.Shape) int64 {
	n := int64(0)
	add := func(factors ...int) {
		p := int64(1)
		for _, f := range factors {
			p *= int64(f)
		}
		n += p
	}
	add(s.Items+s.EventTypes+s.GapBuckets+3, s.Dim) // items, types, gaps; norm and cold start
	add(s.Layers, s.Dim, 4*s.Dim+4+4)               // q, k, v, o and two norms
	add(s.Layers, 2*s.Dim*s.FFN+s.FFN+s.Dim)        // up and down
	add(s.Layers, s.Heads, s.Window)                // bias of each distance
	t := s.Text
	add(t.Vocabulary+t.Tokens, t.Dim) // words and positions
	add(t.Layers, t.Dim, 4*t.Dim+4+4) // as above
	add(t.Layers, 2*t.Dim*t.FFN+t.FFN+t.Dim)
	add(2, t.Dim) // norm of the embeddings
	for _, has := range []bool{t.ItemMap, t.UserMap} {
		if has {
			add(s.Dim, t.Dim)
		}
	}
	return n
}

// Decoder holds the dimensions of a language model that writes its answer token by
// token: a transformer with a gated feed-forward part of three matrices and an
// output layer of its own, as those of seven billion parameters commonly are.
type Decoder struct {
	Layers     int `json:"layers"`
	Dim        int `json:"dim"`
	FFN        int `json:"ffn"`
	Vocabulary int `json:"vocabulary"`
}

// weights returns the parameters of the blocks' matrices.
func (d Decoder) weights() int64 {
	return int64(d.Layers) * (4*int64(d.Dim)*int64(d.Dim) + 3*int64(d.Dim)*int64(d.FFN))
}

// Parameters counts the matrices and both embeddings, gains of norms among them.
func (d Decoder) Parameters() int64 {
	return d.weights() + 2*int64(d.Vocabulary)*int64(d.Dim) + int64(2*d.Layers+1)*int64(d.Dim)
}

// PromptMACs counts the reading of a prompt, up to the first token of the answer.
func (d Decoder) PromptMACs(tokens int) int64 {
	t := int64(tokens)
	return t*d.weights() + int64(d.Layers)*int64(d.Dim)*t*(t+1) + int64(d.Vocabulary)*int64(d.Dim)
}

// TokenMACs counts one further token of the answer, the last of context tokens in
// all.
func (d Decoder) TokenMACs(context int) int64 {
	return d.weights() + 2*int64(d.Layers)*int64(d.Dim)*int64(context) + int64(d.Vocabulary)*int64(d.Dim)
}

// StateBytes is what keys and values of one token take in 16 bits.
func (d Decoder) StateBytes() int64 { return 2 * 2 * int64(d.Layers) * int64(d.Dim) }
