package model

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
)

// TextClasses sorts texts into classes by the vectors of a text encoder: multinomial
// logistic regression, softmax(W·e + b). With the classes negative and positive it says
// what the sentiment of a text is.
type TextClasses struct {
	Names  []string  // (C), at least two
	Weight *Tensor   // W, (C, D)
	Bias   []float32 // b, (C)
}

// Names of the tensors of text classes in their file, and of the metadata.
const (
	classesWeight = "classify.weight" // (C, D)
	classesBias   = "classify.bias"   // (C)
	classesKey    = "wisp.classes"    // JSON array of names
)

// Validate reports what of h does not fit vectors of width dim. The error wraps
// ErrInput.
func (h *TextClasses) Validate(dim int) error {
	n := len(h.Names)
	if n < 2 || len(h.Bias) != n || h.Weight == nil || len(h.Weight.Shape) != 2 || h.Weight.Shape[0] != n || h.Weight.Shape[1] != dim {
		return fmt.Errorf("%w: %d classes of texts with %d biases, which must be two or more and fit vectors of width %d", ErrInput, n, len(h.Bias), dim)
	}
	for i, name := range h.Names {
		if name == "" || slices.Contains(h.Names[:i], name) {
			return fmt.Errorf("%w: class %d of texts has the name %q, which is empty or there twice", ErrInput, i, name)
		}
	}
	for _, x := range [][]float32{h.Weight.Data, h.Bias} {
		if i := notFinite(x); i >= 0 {
			return fmt.Errorf("%w: the head of classes of texts holds %v", ErrInput, x[i])
		}
	}
	return nil
}

// Predict writes the probability of each class, (C), to dst for a text with vector e,
// (D).
func (h *TextClasses) Predict(dst, e []float32) {
	linear(dst, h.Weight, &Tensor{Shape: []int{len(h.Bias)}, Data: h.Bias}, e, false)
	best, sum := slices.Max(dst), float32(0)
	for i, z := range dst {
		dst[i] = float32(math.Exp(float64(z - best)))
		sum += dst[i]
	}
	for i := range dst {
		dst[i] /= sum
	}
}

// SaveTextClasses writes text classes to a safetensors file, with more metadata.
func SaveTextClasses(path string, h *TextClasses, metadata map[string]string) error {
	names, err := json.Marshal(h.Names)
	if err != nil {
		return fmt.Errorf("model: save text classes: %w", err)
	}
	all := map[string]string{classesKey: string(names)}
	for k, v := range metadata {
		all[k] = v
	}
	return SaveTensors(path, map[string]*Tensor{classesWeight: h.Weight, classesBias: {Shape: []int{len(h.Bias)}, Data: h.Bias}}, all)
}

// LoadTextClasses reads what SaveTextClasses wrote, with its metadata. See Validate.
func LoadTextClasses(path string) (*TextClasses, map[string]string, error) {
	tensors, metadata, err := LoadTensors(path)
	if err != nil {
		return nil, nil, err
	}
	weight, bias := tensors[classesWeight], tensors[classesBias]
	if weight == nil || bias == nil {
		return nil, nil, fmt.Errorf("%w: %s: it lacks a tensor of %s and %s", ErrFormat, path, classesWeight, classesBias)
	}
	h := &TextClasses{Weight: weight, Bias: bias.Data}
	if err := json.Unmarshal([]byte(metadata[classesKey]), &h.Names); err != nil {
		return nil, nil, fmt.Errorf("%w: %s: metadata %s: %w", ErrFormat, path, classesKey, err)
	}
	return h, metadata, nil
}
