package hostgpu

// build makes the graph of a step, or of a part of one.
func (t *Trainer) build() (err error) {
	o := t.opts
	tw := newTower(t.cfg, o.Rows/t.parts, o.Length, float32(o.Dropout), t.state)
	was := t.graph
	if t.graph, err = newTowerGraph(t.dev, t.weights, tw, t.spec); err != nil {
		return err
	}
	if was != nil { // what was drawn for the step still counts
		copy(t.graph.samples, was.samples)
	}
	return nil
}

// descend runs a batch of rows through the graph and moves the weights.
func (t *Trainer) descend(rows [][]piece, rate float64) (float64, error) {
	if t.opts.Average > 0 { // what is needed after the weights have moved is there before
		for _, name := range t.graph.names {
			t.dev.mirror(t.average[name].Data)
		}
	}
	if t.parts == 1 {
		if err := t.graph.batch.fill(t.material, rows, t.opts.Length, t.cfg); err != nil {
			return 0, err
		}
		return t.graph.step(t.adam, t.weights, rate, t.opts.ClipNorm)
	}
	// The loss is a mean over events: parts weigh as many as they have.
	sum := gradientSum{dev: t.dev, adam: t.adam, place: map[string]int{}, keeps: true}
	each, losses, total := t.opts.Rows/t.parts, 0.0, 0
	defer func() { t.state.part = 0 }()
	for lo := 0; lo < len(rows); lo += each {
		t.state.part = uint64(lo / each)
		if err := t.graph.batch.fill(t.material, rows[lo:min(lo+each, len(rows))], t.opts.Length, t.cfg); err != nil {
			return 0, err
		}
		n := t.graph.batch.counted(t.soft != nil)
		if n == 0 {
			continue
		}
		loss, err := t.graph.evaluate()
		if err != nil {
			return 0, err
		}
		sum.add(term{t.graph.graph, float64(n)})
		losses, total = losses+loss*float64(n), total+n
	}
	if total == 0 {
		return 0, nil
	}
	return losses / float64(total), sum.descend(t.weights, rate, t.opts.ClipNorm, 1/float64(total))
}

// mostParts is how many parts a step has at most: each must tell its dropout apart.
const mostParts = 1 << 7

// halve makes steps in parts of half as many rows, and reports whether that can be
// done: a part has whole rows. A gradient that gathers for an encoder would have been
// added in part.
func (t *Trainer) halve() bool {
	g, ok := t.dev.(*gpu)
	if !ok || t.opts.Rows/t.parts%2 != 0 || 2*t.parts > mostParts || t.joint != nil || !g.forgive() {
		return false
	}
	if t.pull() != nil || t.graph.close() != nil || g.close() != nil {
		return false
	}
	t.dev, t.adam.sums = t.opts.Device.open(), map[string]vector{}
	t.parts *= 2
	return t.build() == nil
}
