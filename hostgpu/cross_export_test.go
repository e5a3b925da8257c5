package hostgpu

// NewListwise is the kernel under test.
func NewListwise(b, m, d int, drop *Dropout) Kernel {
	return Kernel{&listwise{b: b, m: m, d: d, drop: drop}}
}

// Gradients computes the loss of lists and its gradients by name, without a step.
func (r *CrossRun) Gradients(lists []CrossList) (loss float32, grads map[string][]float32, err error) {
	g, err := r.task.fill(lists)
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

// RankBy is the rank of the target by both scores.
func (c *CrossCase) RankBy(scores []float32, mix float64) int32 { return c.rank(scores, mix) }

// CrossScale is what scores are multiplied by.
const CrossScale = crossScale

// Best lists the items with the highest scores.
var Best = best
