package hostgpu

import "github.com/wisp-project/wisp/model"

// NewClassification is the kernel under test.
func NewClassification(b, d, c int, smoothing float32, drop *Dropout) Kernel {
	return Kernel{&classification{b: b, d: d, c: c, smoothing: smoothing, drop: drop}}
}

// Gradients computes the loss of one batch and its gradients by name, without a
// step.
func (c *TextClassifier) Gradients(texts [][]int32, classes []int) (loss float32, grads map[string][]float32, err error) {
	rows := make([]int, len(texts))
	for i := range rows {
		rows[i] = i
	}
	g, err := c.fill(texts, classes, rows)
	if err != nil {
		return 0, nil, err
	}
	if loss, err = g.run(); err != nil {
		return 0, nil, err
	}
	grads = map[string][]float32{}
	for i, name := range g.names {
		grads[name] = g.gradient(i).host
	}
	return loss, grads, nil
}

// Weights are those that the classifier computes with.
func (c *TextClassifier) Weights() model.Weights { return c.weights }

// Known is the number of texts whose frozen part is kept.
func (c *TextClassifier) Known() int { return len(c.frozen.known) }

// Head names the tensors of a classification head.
var Head = struct{ Weight, Bias string }{classifyWeight, classifyBias}
