package model

import (
	"fmt"
	"math"
	"slices"
)

// Tensor is a dense float32 array in row-major order.
type Tensor struct {
	Shape []int
	Data  []float32
}

// NewTensor returns a zero tensor of the given shape.
func NewTensor(shape ...int) *Tensor {
	n := 1
	for _, s := range shape {
		n *= s
	}
	return &Tensor{Shape: shape, Data: make([]float32, n)}
}

// Row returns row i of a matrix; it shares the tensor's memory.
func (t *Tensor) Row(i int) []float32 {
	n := t.Shape[len(t.Shape)-1]
	return t.Data[i*n : (i+1)*n]
}

// Weights are the tensors of a model by name. The names are the same in
// checkpoints, safetensors files and reports.
type Weights map[string]*Tensor

// Spec is the name and shape of one tensor.
type Spec struct {
	Name  string
	Shape []int
}

// Names of tensors that stand outside the blocks.
const (
	ItemEmbedding   = "item.embedding.weight"   // (N, D) the learnt e_i
	ItemFeatures    = "item.features.weight"    // (D, F) projection of the given item vectors
	UserType        = "user.type.weight"        // (E, D)
	UserGap         = "user.gap.weight"         // (G, D)
	UserNormGain    = "user.norm.weight"        // (D)
	UserNormBias    = "user.norm.bias"          // (D)
	UserCold        = "user.cold.weight"        // (D) the user vector of an empty history
	UserDescription = "user.description.weight" // (D, F_u) projection of the given user vectors
)

// LayerName returns the name of a tensor of block l, e.g. LayerName(0, "attn.q.weight").
func LayerName(l int, name string) string { return fmt.Sprintf("user.layer.%d.%s", l, name) }

// Specs lists the tensors of a model with configuration c, in a fixed order.
func (c Config) Specs() []Spec {
	D, F := c.Dim, c.FFN
	s := []Spec{{ItemEmbedding, []int{c.Items, D}}}
	if c.Features > 0 {
		s = append(s, Spec{ItemFeatures, []int{D, c.Features}})
	}
	s = append(s, Spec{UserType, []int{c.EventTypes, D}}, Spec{UserGap, []int{c.GapBuckets, D}})
	for l := range c.Layers {
		add := func(name string, shape ...int) { s = append(s, Spec{LayerName(l, name), shape}) }
		add("attn.norm.weight", D)
		add("attn.norm.bias", D)
		for _, p := range []string{"q", "k", "v", "o"} {
			add("attn."+p+".weight", D, D)
			add("attn."+p+".bias", D)
		}
		add("attn.distance.bias", c.Heads, c.Window)
		add("ffn.norm.weight", D)
		add("ffn.norm.bias", D)
		add("ffn.up.weight", F, D)
		add("ffn.up.bias", F)
		add("ffn.down.weight", D, F)
		add("ffn.down.bias", D)
	}
	s = append(s, Spec{UserNormGain, []int{D}}, Spec{UserNormBias, []int{D}}, Spec{UserCold, []int{D}})
	if c.Descriptions > 0 {
		s = append(s, Spec{UserDescription, []int{D, c.Descriptions}})
	}
	return s
}

// Shaped is a configuration that fixes a set of tensors: Config or TextConfig.
type Shaped interface {
	// Specs lists the tensors, in a fixed order.
	Specs() []Spec
}

// Check reports the first tensor that configuration c needs and w lacks or has
// in another shape, holds in excess, or whose values are not all finite.
func (w Weights) Check(c Shaped) error {
	specs := c.Specs()
	for _, s := range specs {
		t, ok := w[s.Name]
		if !ok {
			return fmt.Errorf("%w: tensor %q of shape %v is missing", ErrWeights, s.Name, s.Shape)
		}
		if len(t.Shape) != len(s.Shape) {
			return fmt.Errorf("%w: tensor %q has shape %v, want %v", ErrWeights, s.Name, t.Shape, s.Shape)
		}
		for i := range s.Shape {
			if t.Shape[i] != s.Shape[i] {
				return fmt.Errorf("%w: tensor %q has shape %v, want %v", ErrWeights, s.Name, t.Shape, s.Shape)
			}
		}
		if i := notFinite(t.Data); i >= 0 {
			return fmt.Errorf("%w: tensor %q holds %v at position %d", ErrWeights, s.Name, t.Data[i], i)
		}
	}
	if len(w) != len(specs) {
		known := make(map[string]bool, len(specs))
		for _, s := range specs {
			known[s.Name] = true
		}
		for name := range w {
			if !known[name] {
				return fmt.Errorf("%w: tensor %q is not part of this model", ErrWeights, name)
			}
		}
	}
	return nil
}

// notFinite returns the position of the first value that is NaN or infinite, or -1.
func notFinite(x []float32) int {
	return slices.IndexFunc(x, func(v float32) bool { return math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) })
}
