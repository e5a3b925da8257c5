package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/atomicfile"
	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/internal/results"
	"github.com/wisp-project/wisp/internal/runlog"
	"github.com/wisp-project/wisp/model"
)

const controlsText = `
What each control against overfitting, or against an unstable training, does where data
are few: all-MiniLM-L6-v2 with a classification head learns whether a sentence is
positive from 400 sentences of rt-polarity (sentiment.md), cut to 32 tokens, for six
epochs in batches of 16, and is validated on 1,000 others after each. Every training is
done three times, with another seed and other sentences.

The training without any control has four of six blocks frozen, for otherwise this page
would take hours, the rate 0.0003 with warm-up and cosine, and no decay, clipping,
smoothing or dropout. Each control is added to it alone, in one setting that was chosen
before anything was measured: the default of the command, or what the literature uses.
schedule and clipping are compared at seven times the rate, constant for all steps, where
they have something to do. early-stopping keeps the weights with the least loss on one
half of the validation sentences, and gives up after two epochs without a lesser one; its
figures are those of the other half, with and without.

accuracy and loss: after the last epoch. best-accuracy: of the best epoch on the same
sentences, so a little too good. difference: with the control less without it, in pairs
of the same seed; a difference whose interval has zero in it is none that counts, and
the note says so. Intervals: Student's t over the seeds. Pictures: means over the seeds.
`

// Sizes of the controls topic.
const (
	controlTrain  = 400
	controlValid  = 1000 // first in the order that the seed draws; both halves count
	controlTokens = 32
	controlSeed   = 5 // of which sentences validate
	// controlPatience is how many epochs early stopping waits for a lesser loss.
	controlPatience = 2
)

// control is what a training does to generalise, or to stay stable.
type control struct {
	name, title string
	from        string // name of the training without it
	without     hostgpu.TextClassifyOptions
	add         func(o *hostgpu.TextClassifyOptions)
}

// controls lists them, but for early stopping, which needs no training of its own.
func controls() []control {
	plain := hostgpu.TextClassifyOptions{
		FrozenLayers: 4, Epochs: 6, Batch: 16, LearningRate: 3e-4, WeightDecay: -1, ClipNorm: -1, Dropout: -1, Smoothing: -1,
	}
	fast := plain
	fast.LearningRate, fast.ConstantRate = 2e-3, true
	return []control{
		{"freezing", "five blocks of six frozen, not four", "plain", plain, func(o *hostgpu.TextClassifyOptions) { o.FrozenLayers = 5 }},
		{"adapters", "adapters of rank 8, rate 0.001", "plain", plain, func(o *hostgpu.TextClassifyOptions) { o.AdapterRank, o.LearningRate = 8, 1e-3 }},
		{"weight-decay", "decoupled weight decay of 0.1", "plain", plain, func(o *hostgpu.TextClassifyOptions) { o.WeightDecay = 0.1 }},
		{"smoothing", "label smoothing of 0.1", "plain", plain, func(o *hostgpu.TextClassifyOptions) { o.Smoothing = 0.1 }},
		{"dropout", "dropout of 0.1", "plain", plain, func(o *hostgpu.TextClassifyOptions) { o.Dropout = 0.1 }},
		{"schedule", "warm-up and cosine, rate 0.002", "fast", fast, func(o *hostgpu.TextClassifyOptions) { o.ConstantRate = false }},
		{"clipping", "gradients clipped to norm 1, rate 0.002", "fast", fast, func(o *hostgpu.TextClassifyOptions) { o.ClipNorm = 1 }},
	}
}

// learningCurve is what a training came to, epoch by epoch.
type learningCurve struct {
	Train    []float64    `json:"train"` // mean loss of the steps
	Loss     [2][]float64 `json:"loss"`  // on each half of the validation sentences
	Accuracy [2][]float64 `json:"accuracy"`
	Diverged bool         `json:"diverged"` // what follows repeats the last state that was finite
}

// judged is a learning curve on the sentences that figures are taken from.
type judged struct {
	train, loss, accuracy []float64
	diverged              bool
}

// whole returns the curves on all validation sentences.
func whole(curves []learningCurve) []judged {
	all := make([]judged, len(curves))
	for i, c := range curves {
		all[i] = judged{c.Train, means(c.Loss[:]...), means(c.Accuracy[:]...), c.Diverged}
	}
	return all
}

// second returns the curves on the half that does not decide when to stop.
func second(curves []learningCurve) []judged {
	all := make([]judged, len(curves))
	for i, c := range curves {
		all[i] = judged{c.Train, c.Loss[1], c.Accuracy[1], c.Diverged}
	}
	return all
}

// stopEarly returns what is kept after each epoch where the loss on the first half
// decides, judged by the second, and says when that was.
func stopEarly(curves []learningCurve) ([]judged, string) {
	all, note := second(curves), fmt.Sprintf("patience %d; of each seed, the epoch that is kept, and the last that was trained:", controlPatience)
	for i, c := range curves {
		best, last := 0, 0
		for e, loss := range c.Loss[0] {
			if e-best > controlPatience {
				break
			}
			if last = e; loss < c.Loss[0][best] {
				best = e
			}
		}
		note += fmt.Sprintf(" %d of %d", best+1, last+1)
		all[i].train = c.Train[:last+1]
		kept := 0
		all[i].loss, all[i].accuracy = nil, nil
		for e := range c.Loss[0] {
			if e <= last && c.Loss[0][e] < c.Loss[0][kept] {
				kept = e
			}
			all[i].loss, all[i].accuracy = append(all[i].loss, c.Loss[1][kept]), append(all[i].accuracy, c.Accuracy[1][kept])
		}
	}
	return all, note
}

// means returns the mean of the curves at each place that all of them have.
func means(curves ...[]float64) []float64 {
	var m []float64
	for i := range slices.MinFunc(curves, func(a, b []float64) int { return len(a) - len(b) }) {
		sum := 0.0
		for _, c := range curves {
			sum += c[i]
		}
		m = append(m, sum/float64(len(curves)))
	}
	return m
}

// judge returns the mean cross-entropy and the share that is right of the
// probabilities p of two classes.
func judge(p []float32, classes []int) (loss, accuracy float64) {
	for i, class := range classes {
		const least = 1e-7 // stands for 0 too, and for what is no number
		of := float64(p[2*i+class])
		if !(of > least) {
			of = least
		}
		loss -= math.Log(of)
		if of > 0.5 {
			accuracy++
		}
	}
	n := float64(len(classes))
	return loss / n, accuracy / n
}

// controlBench trains with and without controls.
type controlBench struct {
	*bench
	s     *sentences
	ids   [][]int32
	key   string // of encoder and sentences
	valid []int
	rest  []int
	roots map[int]*hostgpu.TextClassifier // by frozen layers: they keep what these make of texts
	m     *model.TextModel
}

// controls measures what each control does.
func (b *bench) controls(ctx context.Context) (t results.Topic, err error) {
	t = results.Topic{Title: "Controls of training, one by one", Text: controlsText}
	dir, encoder := filepath.Join(b.shared, "data", "rt-polarity"), filepath.Join(b.shared, "models", "all-MiniLM-L6-v2")
	for _, path := range []string{dir, encoder} {
		if _, err := os.Stat(path); err != nil {
			b.p.line("skipped the controls: %v", err)
			return t, nil
		}
	}
	c := controlBench{bench: b, roots: map[int]*hostgpu.TextClassifier{}}
	if c.s, err = readSentences(dir); err != nil {
		return t, err
	}
	if c.m, c.ids, err = c.s.tokens(encoder, controlTokens); err != nil {
		return t, err
	}
	c.key = c.s.digest + " " + digestOf(c.m, c.ids)
	order := rand.New(rand.NewPCG(controlSeed, 0)).Perm(len(c.ids))
	if len(order) < controlValid+controlTrain {
		return t, fmt.Errorf("%s has %d sentences; the controls need %d", dir, len(order), controlValid+controlTrain)
	}
	c.valid, c.rest = order[:controlValid], order[controlValid:]
	defer func() {
		for _, root := range c.roots {
			err = errors.Join(err, root.Close())
		}
	}()
	for i, x := range controls() {
		without, _, err := c.curves(ctx, x.from, x.without)
		if err != nil {
			return t, err
		}
		o := x.without
		x.add(&o)
		with, trained, err := c.curves(ctx, x.name, o)
		if err != nil {
			return t, err
		}
		note := fmt.Sprintf("%s; %d parameters trained", x.title, trained)
		if err := c.compare(&t, x.name, note, whole(with), whole(without)); err != nil {
			return t, err
		}
		if i == 0 {
			stopped, note := stopEarly(without)
			if err := c.compare(&t, "early-stopping", note, stopped, second(without)); err != nil {
				return t, err
			}
		}
	}
	return t, nil
}

// curves returns the learning curves of all seeds with options o, and how many
// parameters are trained; name is that of the files that keep them.
func (c *controlBench) curves(ctx context.Context, name string, o hostgpu.TextClassifyOptions) ([]learningCurve, int, error) {
	var all []learningCurve
	trained := 0
	for seed := 1; seed <= c.seeds; seed++ {
		o.Seed = uint64(seed)
		classifier, err := c.classifier(o)
		if err != nil {
			return nil, 0, err
		}
		options, err := json.Marshal(classifier.Options())
		if err != nil {
			return nil, 0, err
		}
		trained, _ = classifier.Parameters()
		path := filepath.Join(c.work, "controls", fmt.Sprintf("%s-%d.json", name, seed))
		curve, err := kept(path, string(options)+" "+c.key, func() (learningCurve, error) {
			c.p.line("controls: %s, seed %d", name, seed)
			return c.train(ctx, classifier, seed)
		})
		if err = errors.Join(err, classifier.Close()); err != nil {
			return nil, 0, err
		}
		all = append(all, curve)
	}
	return all, trained, nil
}

// classifier returns one with options o that uses what others with as many frozen
// blocks keep.
func (c *controlBench) classifier(o hostgpu.TextClassifyOptions) (*hostgpu.TextClassifier, error) {
	root := c.roots[o.FrozenLayers]
	if root == nil {
		var err error
		if root, err = hostgpu.NewTextClassifier(c.m, 2, hostgpu.TextClassifyOptions{FrozenLayers: o.FrozenLayers}); err != nil {
			return nil, err
		}
		c.roots[o.FrozenLayers] = root
	}
	return root.With(o)
}

// train trains with the sentences of a seed.
func (c *controlBench) train(ctx context.Context, classifier *hostgpu.TextClassifier, seed int) (learningCurve, error) {
	var curve learningCurve
	valid := pick(c.ids, c.valid)
	if err := classifier.Remember(ctx, valid); err != nil {
		return curve, err
	}
	rng := rand.New(rand.NewPCG(controlSeed, uint64(seed)))
	var places []int
	for _, i := range rng.Perm(len(c.rest))[:controlTrain] {
		places = append(places, c.rest[i])
	}
	o := classifier.Options()
	validate := func() error {
		p, err := classifier.Predict(ctx, valid)
		if err != nil {
			return err
		}
		classes := pick(c.s.classes, c.valid)
		middle := len(classes) / 2
		for half, at := range [][2]int{{0, middle}, {middle, len(classes)}} {
			loss, accuracy := judge(p[2*at[0]:2*at[1]], classes[at[0]:at[1]])
			curve.Loss[half], curve.Accuracy[half] = append(curve.Loss[half], loss), append(curve.Accuracy[half], accuracy)
		}
		return nil
	}
	var failed error
	sum := 0.0
	err := classifier.Train(ctx, pick(c.ids, places), pick(c.s.classes, places), func(p hostgpu.TextClassifyProgress) {
		c.p.stage("training with and without controls", int64(p.Step), int64(p.Steps))
		sum += p.Loss
		if steps := p.Steps / o.Epochs; p.Step%steps == 0 {
			curve.Train = append(curve.Train, sum/float64(steps))
			sum = 0
			failed = errors.Join(failed, validate())
		}
	})
	if curve.Diverged = errors.Is(err, hostgpu.ErrDiverged); curve.Diverged {
		err = nil
		for len(curve.Loss[0]) < o.Epochs && failed == nil {
			failed = validate()
		}
	}
	return curve, errors.Join(err, failed)
}

// compare adds the figures of a control to t and draws its curves.
func (c *controlBench) compare(t *results.Topic, name, note string, with, without []judged) error {
	last := func(x []float64) float64 { return x[len(x)-1] }
	prefix := "quality.controls." + name + "."
	add := func(name, note string, value func(i int) float64) (eval.Interval, error) {
		values := make([]float64, len(with))
		for i := range values {
			values[i] = value(i)
		}
		interval, err := eval.StudentT(values)
		t.Records = append(t.Records, within(results.Record{Name: prefix + name, N: len(values), Note: note}, interval))
		return interval, err
	}
	for _, side := range []struct {
		name, note string
		curves     []judged
	}{{"with", note, with}, {"without", "", without}} {
		for _, j := range side.curves {
			if j.diverged {
				side.note += "; a training diverged"
			}
		}
		for _, f := range []struct {
			name  string
			value func(j judged) float64
		}{
			{"accuracy", func(j judged) float64 { return last(j.accuracy) }},
			{"best-accuracy", func(j judged) float64 { return slices.Max(j.accuracy) }},
			{"loss", func(j judged) float64 { return last(j.loss) }},
		} {
			if _, err := add(side.name+"."+f.name, side.note, func(i int) float64 { return f.value(side.curves[i]) }); err != nil {
				return err
			}
			side.note = "" // said once
		}
	}
	for _, f := range []struct {
		name   string
		better float64 // sign of a difference for the better
		of     func(j judged) []float64
	}{
		{"accuracy", 1, func(j judged) []float64 { return j.accuracy }},
		{"loss", -1, func(j judged) []float64 { return j.loss }},
	} {
		d, err := add("difference."+f.name, "", func(i int) float64 { return last(f.of(with[i])) - last(f.of(without[i])) })
		if err != nil {
			return err
		}
		verdict := &t.Records[len(t.Records)-1].Note
		switch {
		case d.Low <= 0 && d.High >= 0:
			*verdict = "no difference that counts"
		case d.Value*f.better > 0:
			*verdict = "helps"
		default:
			*verdict = "does harm"
		}
	}
	return c.draw(t, name, with, without)
}

// draw writes the picture of a control and shows it on the page.
func (c *controlBench) draw(t *results.Topic, name string, with, without []judged) error {
	curve := func(label string, of func(j judged) []float64, from []judged) runlog.Curve {
		var values [][]float64
		for _, j := range from {
			values = append(values, of(j))
		}
		return runlog.Curve{Name: label, First: 1, Values: means(values...)}
	}
	train := func(j judged) []float64 { return j.train }
	loss := func(j judged) []float64 { return j.loss }
	accuracy := func(j judged) []float64 { return j.accuracy }
	svg, err := runlog.Picture(
		runlog.Chart{Title: name + ": loss", Axis: "epoch", Curves: []runlog.Curve{
			curve("validation, without", loss, without), curve("validation, with", loss, with),
			curve("training, without", train, without), curve("training, with", train, with),
		}},
		runlog.Chart{Title: name + ": validation accuracy", Axis: "epoch", Curves: []runlog.Curve{
			curve("without", accuracy, without), curve("with", accuracy, with),
		}},
	)
	if err != nil {
		return err
	}
	file := "controls-" + name + ".svg"
	t.Text += fmt.Sprintf("\n![Learning curves with and without %s](%s)\n", name, file)
	if err := os.MkdirAll(c.docs, 0o755); err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(c.docs, file), svg)
}
