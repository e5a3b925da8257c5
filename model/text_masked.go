package model

// Names of the tensors of a masked-language head, which guesses a hidden token
// from its state x: softmax of norm(gelu(W·x + c))·Eᵀ + b, with E the embedding of
// words (Devlin et al. 2019).
const (
	MaskedWeight   = "mlm.transform.weight" // (D, D)
	MaskedOffset   = "mlm.transform.bias"   // (D)
	MaskedNormGain = "mlm.norm.weight"      // (D)
	MaskedNormBias = "mlm.norm.bias"        // (D)
	MaskedBias     = "mlm.bias"             // (V)
)

// MaskedSpecs lists the tensors of the masked-language head of an encoder.
func (c TextConfig) MaskedSpecs() []Spec {
	v := []int{c.Dim}
	return []Spec{
		{Name: MaskedWeight, Shape: []int{c.Dim, c.Dim}},
		{Name: MaskedOffset, Shape: v},
		{Name: MaskedNormGain, Shape: v},
		{Name: MaskedNormBias, Shape: v},
		{Name: MaskedBias, Shape: []int{c.Vocabulary}},
	}
}

// splitMasked takes the masked-language head out of w: nil unless it is whole. A
// head that lacks a part is none, and the encoder does without.
func (c TextConfig) splitMasked(w Weights) Weights {
	head := Weights{}
	for _, s := range c.MaskedSpecs() {
		if t, ok := w[s.Name]; ok {
			head[s.Name] = t
			delete(w, s.Name)
		}
	}
	if len(head) < len(c.MaskedSpecs()) {
		return nil
	}
	return head
}
