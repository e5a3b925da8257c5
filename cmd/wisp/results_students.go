package main

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"reflect"

	"gonum.org/v1/gonum/stat"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/internal/results"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
)

const studentsText = `
What is left of the best teacher at each step down to the sandbox. Leave-one-out with the
protocol of quality.md, of games with that of games.md and one seed.

- best: the best-teacher of teachers.md and games.md, an ensemble in float32. For the test all that
  vote are fitted again on all events before it.
- student: one model, distilled from it (wisp distil): for the epochs that validation
  chose when it learnt from those who do not know the validation events.
- student-int8: the same in eight bits, plain Go; student-int8-sandbox: out of the
  artefact, as everybody runs it.
- student-pruned: what is left of the student without half of its feed-forward columns and
  a quarter of its dimensions, the least important ones (wisp prune), after it recovered by
  what the whole one expects; the shares were set beforehand. student-pruned-int8-sandbox:
  its artefact.
- undistilled-int8-sandbox: the public recipe beside it. The teacher of quality.md (of games the
  ids-teacher of games.md), of the size small, trained again with the validation events and quantized
  after training.

The student of games starts as the ids-teacher, which has its shape and like it no vectors of texts, and
learns for 4 epochs at most, from histories as they are and none made up from them; no other size
is tried.

The size of the student is the one with the best mean validation NDCG@10, beside it as
NAME.validation-ndcg10. retention is over best, ties counted for the teacher and against
the student; its interval is a paired bootstrap over cases, of each the mean over seeds.
overlap10 is the share of best's top 10 that is in the student's. Intervals of ndcg10 are
Student's t over seeds. bytes of best: all networks that vote, in float32, their text
encoder, and what the counted members keep, mean over seeds. artefact: the file with kernel
and catalogue; bytes-per-item is all of it over the number of items. macs: multiply-accumulates of a request with a history of 50 events, those
of an encoder left out, as items are encoded beforehand. p50: a request, plain (all scores
and the ten best of them) or to the sandbox.
`

// studentSizes are tried for the student of the page.
var studentSizes = []string{"micro", "small"}

// An epoch of a student of the games takes minutes. One that starts as a voter needs few
// of them, and the voter of most weight, ids-teacher, is small.
var gamesSizes = []string{"small"}

const gamesEpochs = 4

func gamesStudent() variant { return variant{name: "ids-"} }

// Its 50,000 histories are enough without others made up from them.
func gamesLessons() quantize.LessonOptions { return quantize.LessonOptions{Augment: -1} }

func (b *bench) students(ctx context.Context) (results.Topic, error) {
	t := results.Topic{Title: "What the student keeps", Text: studentsText}
	for _, set := range b.present(b.filmSets()...) {
		c := class{bench: b, set: set, variants: b.teacherVariants(), sizes: studentSizes, kind: usual(0)}
		if err := c.run(ctx); err != nil {
			return t, err
		}
		t.Records = append(t.Records, c.records...)
	}
	one := *b
	one.seeds = 1
	for _, set := range b.present(b.gamesSet()) {
		c := class{bench: &one, set: set, variants: b.gamesVariants(), companions: neighbours(), sizes: gamesSizes, kind: gamesStudent(), epochs: gamesEpochs, lessons: gamesLessons()}
		if err := c.run(ctx); err != nil {
			return t, err
		}
		t.Records = append(t.Records, c.records...)
	}
	return t, nil
}

// class is the students of one set.
type class struct {
	*bench
	set         set
	variants    []variant              // of networks that may vote
	companions  []string               // that may vote too, nil for all
	sizes       []string               // of students that are tried
	kind        variant                // whose vectors they are given, and the teacher beside them, of any seed
	epochs      int                    // of a student, at most; 0 for the usual number
	lessons     quantize.LessonOptions // what it learns from, as usual where zero
	ds          *data.Dataset
	fingerprint string
	s           *data.Split
	counts      []int64
	records     []results.Record

	// By stage, a value or a result for each seed.
	measured map[string][]*eval.Result
	p50      map[string][]float64
	bytes    map[string][]float64
	macs     float64 // of a request to the student
}

func (c *class) run(ctx context.Context) (err error) {
	if c.ds, c.fingerprint, err = c.prepared(ctx, c.set); err != nil {
		return err
	}
	if c.s, err = split(c.ds, leaveOneOut); err != nil {
		return err
	}
	c.counts = popularity(fittingData(c.ds, c.s), len(c.ds.Items))
	c.measured, c.p50, c.bytes = map[string][]*eval.Result{}, map[string][]float64{}, map[string][]float64{}
	teachers, again := make([]*ensemble, c.seeds), make([]*ensemble, c.seeds)
	validation := map[string][]float64{}
	for i := range c.seeds {
		if teachers[i], again[i], err = c.teacher(ctx, i+1); err != nil {
			return err
		}
		for _, size := range c.sizes {
			_, t, _, err := c.student(ctx, size, i+1, teachers[i], again[i])
			if err != nil {
				return err
			}
			validation[size] = append(validation[size], t.BestNDCG)
		}
		teachers[i].asked, again[i].asked = nil, nil // hundreds of megabytes
	}
	size := c.sizes[0]
	for _, name := range c.sizes {
		if err := c.add("quality."+c.set.name+".student-"+name+".validation-ndcg10", validation[name], "", ""); err != nil {
			return err
		}
		if stat.Mean(validation[name], nil) > stat.Mean(validation[size], nil) {
			size = name
		}
	}
	for i := range c.seeds {
		e := again[i]
		voters, bytes, err := e.fit(fittingData(c.ds, c.s), len(c.ds.Items))
		if err != nil {
			return err
		}
		if err := c.measure(ctx, "best", stage{scorer: voters, bytes: bytes, request: top10(voters, len(c.ds.Items))}); err != nil {
			return err
		}
		m, t, dir, err := c.student(ctx, size, i+1, teachers[i], again[i])
		if err != nil {
			return err
		}
		if err := c.measure(ctx, "student", teacher(m, t.users)); err != nil {
			return err
		}
		c.macs = float64(quantize.ModelMACs(m.Config, 50).Total())
		if err := c.squeezed(ctx, "student", m, t, dir); err != nil {
			return err
		}
		if m, t, dir, err = c.pruned(ctx, m.Config, i+1, dir); err != nil {
			return err
		}
		if err := c.measure(ctx, "student-pruned", teacher(m, t.users)); err != nil {
			return err
		}
		if err := c.squeezed(ctx, "student-pruned", m, t, dir); err != nil {
			return err
		}
		v := c.kind
		v.seed = i + 1
		_, vt, _, err := c.trained(ctx, c.ds, c.fingerprint, c.s, v)
		if err != nil {
			return err
		}
		if m, t, dir, err = c.again(ctx, c.ds, c.fingerprint, c.s, v, vt); err != nil {
			return err
		}
		if err := c.squeezed(ctx, "undistilled", m, t, dir); err != nil {
			return err
		}
	}
	return c.report("the size is " + size + ", chosen on validation")
}

// teacher makes the ensemble of a seed, before and after its members know the
// validation events.
func (c *class) teacher(ctx context.Context, seed int) (e, again *ensemble, err error) {
	var networks []network
	for _, v := range c.variants {
		v.seed = seed
		m, t, _, err := c.trained(ctx, c.ds, c.fingerprint, c.s, v)
		if err != nil {
			return nil, nil, err
		}
		networks = append(networks, network{v, m, t})
	}
	return c.ensemble(ctx, c.ds, c.fingerprint, c.s, networks, c.companions)
}

// student returns the student of that size, distilled unless it is in the work folder,
// and its folder there.
func (c *class) student(ctx context.Context, size string, seed int, e, again *ensemble) (*model.Model, training, string, error) {
	dir := filepath.Join(c.work, c.ds.Name, fmt.Sprintf("student-%s-%s-seed-%d", size, c.s.Protocol, seed))
	r := studentRun{trainRun: trainRun{out: dir, vectors: c.kind.vectors}, size: size, lessons: c.lessons}
	r.options.Seed, r.options.Epochs = uint64(seed), c.epochs
	if err := r.sized(); err != nil {
		return nil, training{}, "", err
	}
	m, t, err := loadModel(dir)
	if err == nil && t.fits(m, c.ds, c.fingerprint) == nil && t.Refit && reflect.DeepEqual(t.Distilled, r.from(e)) {
		return m, t, dir, nil
	}
	c.p.line("%s student %s, seed %d", c.ds.Name, size, seed)
	if err := r.goOn(func() error {
		_, err := r.learn(ctx, c.ds, c.fingerprint, c.s, e, again, c.p)
		return err
	}); err != nil {
		return nil, t, "", err
	}
	m, t, err = loadModel(dir)
	return m, t, dir, err
}

// pruned returns what is left of the student in a folder, pruned unless that is in the work
// folder, and its folder there.
func (c *class) pruned(ctx context.Context, student model.Config, seed int, of string) (*model.Model, training, string, error) {
	r := pruneRun{
		trainRun: trainRun{data: filepath.Join(c.work, c.set.name, "prepared"), out: of + "-pruned"}, modelDir: of, batches: 64, lessons: c.lessons,
		prune: quantize.PruneOptions{FFN: student.FFN / 2, Dim: student.Dim * 3 / 4},
	}
	r.options = hostgpu.TrainOptions{Seed: uint64(seed), Epochs: 10, LearningRate: studentRate, Dropout: studentDropout}
	if c.epochs > 0 {
		r.options.Epochs = min(r.options.Epochs, c.epochs)
	}
	m, t, err := loadModel(r.out)
	if err == nil && t.fits(m, c.ds, c.fingerprint) == nil {
		if from, err := r.from(); err == nil && reflect.DeepEqual(t.Pruned, from) {
			return m, t, r.out, nil
		}
	}
	c.p.line("%s student, pruned, seed %d", c.ds.Name, seed)
	if err := r.goOn(func() error {
		_, _, _, err := r.run(ctx, c.p)
		return err
	}); err != nil {
		return nil, t, "", err
	}
	m, t, err = loadModel(r.out)
	return m, t, r.out, err
}

// squeezed measures the artefact of a model, in plain Go too where it is the student's.
func (c *class) squeezed(ctx context.Context, name string, m *model.Model, t training, dir string) error {
	x, err := build(ctx, m, t, c.ds, c.s, quantize.BuildOptions{}, filepath.Join(dir, c.ds.Name+".wisp"))
	if err != nil {
		return err
	}
	defer x.close()
	for _, st := range x.stages[1:] {
		stage := name + "-" + st.scorer.Name()
		if name == "student" || st.scorer.Name() == sandboxStage {
			if err := c.measure(ctx, stage, st); err != nil {
				return err
			}
		}
	}
	return nil
}

// measure asks a stage the test cases, of one seed.
func (c *class) measure(ctx context.Context, name string, st stage) error {
	r, err := eval.Run(ctx, st.scorer, len(c.ds.Items), c.s.Test, c.counts, eval.Options{}, nil)
	if err != nil {
		return err
	}
	times, err := latencies(ctx, st.request, c.s.Test, 200)
	if err != nil {
		return err
	}
	c.measured[name] = append(c.measured[name], r)
	c.p50[name] = append(c.p50[name], float64(quantile(times, 0.5).Nanoseconds())/1000)
	c.bytes[name] = append(c.bytes[name], float64(st.bytes))
	return nil
}

// report records what was measured of each stage.
func (c *class) report(note string) error {
	set := c.set.name
	best := c.measured["best"]
	for _, name := range []string{"best", "student", "student-int8", "student-int8-sandbox", "student-pruned", "student-pruned-int8-sandbox", "undistilled-int8-sandbox"} {
		var ndcg []float64
		for _, r := range c.measured[name] {
			if name == "best" {
				ndcg = append(ndcg, r.Accuracy.NDCG)
			} else {
				ndcg = append(ndcg, r.Pessimistic.NDCG) // ties against it
			}
		}
		prefix := "quality." + set + "." + name + "."
		if err := c.add(prefix+"ndcg10", ndcg, "", note); err != nil {
			return err
		}
		note = ""
		if name != "best" {
			kept, err := eval.MeanRetention(c.measured[name], best, eval.NDCG, eval.BootstrapOptions{})
			if err != nil {
				return err
			}
			c.records = append(c.records, within(results.Record{Name: prefix + "retention", N: c.seeds, Note: fmt.Sprintf("paired over %d cases", len(c.s.Test))}, kept))
			var overlap []float64
			for i, r := range c.measured[name] {
				o, err := eval.Overlap(r, best[i])
				if err != nil {
					return err
				}
				overlap = append(overlap, o)
			}
			if err := c.add(prefix+"overlap10", overlap, "", ""); err != nil {
				return err
			}
		}
		if err := c.add("speed."+set+"."+name+".p50-us", c.p50[name], "µs", ""); err != nil {
			return err
		}
		size := "size." + set + "." + name + ".bytes"
		if name == "student-int8-sandbox" {
			size = "size." + set + ".artefact.bytes"
		}
		c.records = append(c.records, results.Record{Name: size, Value: math.Round(stat.Mean(c.bytes[name], nil)), N: c.seeds, Unit: "bytes"})
	}
	c.records = append(c.records,
		results.Record{Name: "size." + set + ".artefact.ratio-to-teacher", Value: stat.Mean(c.bytes["best"], nil) / stat.Mean(c.bytes["student-int8-sandbox"], nil), N: c.seeds},
		results.Record{Name: "size." + set + ".artefact.bytes-per-item", Value: stat.Mean(c.bytes["student-int8-sandbox"], nil) / float64(len(c.ds.Items)), N: c.seeds, Unit: "bytes"},
		results.Record{Name: "compute." + set + ".student.macs", Value: c.macs, N: 1, Note: "history of 50 events"})
	return nil
}

// add records the mean of values, one for each seed.
func (c *class) add(name string, values []float64, unit, note string) error {
	return addMean(&c.records, results.Record{Name: name, Unit: unit, Note: note}, values)
}
