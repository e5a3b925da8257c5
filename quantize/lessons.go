package quantize

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
)

// Teacher is what a student of the towers learns from.
type Teacher struct {
	// Fit returns the teacher with those of its members that are counted from
	// histories, by user, and not trained, counted from these.
	Fit func(histories [][]data.Interaction) (eval.Sequencer, error)
	// Counted says that there are such members. They have seen what a user of these
	// histories did next, and would be too sure of it: they are asked about a user's
	// training events as they are without this user's part of the users. Networks are
	// asked as they are: dropout and early stopping keep them from learning a history
	// by heart, and they are too costly to train several times.
	Counted bool
	// Temperature is what the teacher's scores are divided by to be logarithms of
	// probabilities.
	Temperature float64
}

// LessonOptions say what a teacher is asked about. A zero field means its default.
type LessonOptions struct {
	Temperature float64 `json:"temperature"` // softens the teacher's distributions, or below 1 sharpens them (0.5)
	Top         int     `json:"top"`         // probabilities that are kept for each event (128)
	Folds       int     `json:"folds"`       // parts of the users for members that are counted (5)
	// Augment is how many histories are made up from each user's: a random cut
	// of it, with some events dropped, items replaced by others that the teacher
	// expects after them, and as many events appended that are drawn from what the
	// teacher expects (1). Negative for none.
	Augment  int     `json:"augment"`
	Drop     float64 `json:"drop"`     // share of events dropped (0.1); negative for none
	Swap     float64 `json:"swap"`     // share of items replaced (0.1); negative for none
	Continue int     `json:"continue"` // events appended (5); negative for none
	Seed     uint64  `json:"seed"`
}

// WithDefaults returns the options with defaults filled in.
func (o LessonOptions) WithDefaults() LessonOptions {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
		*v = max(*v, 0)
	}
	deff := func(v *float64, d float64) {
		if *v == 0 {
			*v = d
		}
		*v = max(*v, 0)
	}
	deff(&o.Temperature, 0.5)
	def(&o.Top, 128)
	def(&o.Folds, 5)
	def(&o.Augment, 1)
	deff(&o.Drop, 0.1)
	deff(&o.Swap, 0.1)
	def(&o.Continue, 5)
	return o
}

// Validate reports the first option that cannot be followed.
func (o LessonOptions) Validate() error {
	for _, f := range []struct {
		name         string
		v, least, to float64
	}{
		{"temperature", o.Temperature, 0, 100},
		{"kept probabilities", float64(o.Top), 0, 1 << 16},
		{"folds", float64(o.Folds), 0, 100},
		{"augmentation", float64(o.Augment), -1, 1000},
		{"share of dropped events", o.Drop, -1, 0.9},
		{"share of replaced items", o.Swap, -1, 1},
		{"appended events", float64(o.Continue), -1, 1000},
	} {
		if !(f.v >= f.least && f.v <= f.to) {
			return fmt.Errorf("%w: %s is %v, must lie between %v and %v", ErrLessons, f.name, f.v, f.least, f.to)
		}
	}
	if o.Folds == 1 {
		return fmt.Errorf("%w: one fold; at least two parts of the users are needed to leave one out", ErrLessons)
	}
	return nil
}

// Lessons asks a teacher what it expects after each event of the histories, by user,
// over the given number of items, and of histories made up from them; progress, unless
// nil, is called with the users done. What a user has had is not expected again: it is
// never recommended. After the last event of a history, which no member has seen the
// next item of, the teacher answers as it is fitted on all histories.
func Lessons(ctx context.Context, t Teacher, histories [][]data.Interaction, items int, opts LessonOptions, progress func(done, users int64)) (hostgpu.Lessons, error) {
	if err := opts.Validate(); err != nil {
		return hostgpu.Lessons{}, err
	}
	o := opts.WithDefaults()
	if !(t.Temperature > 0) || math.IsInf(t.Temperature, 0) {
		return hostgpu.Lessons{}, fmt.Errorf("%w: the teacher has temperature %v", ErrLessons, t.Temperature)
	}
	whole, err := t.Fit(histories)
	if err != nil {
		return hostgpu.Lessons{}, err
	}
	a := asker{o: o, teacher: t, items: items, whole: whole, histories: histories, near: make([][]int32, items), known: make([]bool, items)}
	var kinds [256]int
	for _, h := range histories {
		for _, e := range h {
			a.known[e.Item] = true
			if kinds[e.Type]++; kinds[e.Type] > kinds[a.usual] {
				a.usual = e.Type
			}
		}
	}
	folds := 1
	if t.Counted {
		folds = o.Folds
	}
	rng := rand.New(rand.NewPCG(o.Seed, 0xf01d))
	fold := make([]int, len(histories))
	for i, u := range rng.Perm(len(histories)) {
		fold[u] = i % folds
	}
	// What was said of the users of one fold after the other, and where each user's
	// part begins.
	all, start := hostgpu.NewSoftTargets(items, o.Top), make([]int, len(histories))
	lessons := make([][]hostgpu.Lesson, len(histories))
	done := int64(0)
	for f := range folds {
		out := whole
		if folds > 1 {
			rest := slices.Clone(histories)
			for u := range rest {
				if fold[u] == f {
					rest[u] = nil
				}
			}
			if out, err = t.Fit(rest); err != nil {
				return hostgpu.Lessons{}, err
			}
		}
		var users []int
		for u, h := range histories {
			if fold[u] == f && len(h) > 0 {
				users = append(users, u)
			}
		}
		const chunk = 64
		for lo := 0; lo < len(users); lo += chunk {
			part := users[lo:min(lo+chunk, len(users))]
			answers := make([]*hostgpu.SoftTargets, len(part))
			if err := each(ctx, len(part), func(i int) (err error) {
				lessons[part[i]], answers[i], err = a.user(ctx, part[i], out)
				return err
			}); err != nil {
				return hostgpu.Lessons{}, err
			}
			for i, u := range part {
				start[u] = all.Len()
				if err := all.Append(answers[i]); err != nil {
					return hostgpu.Lessons{}, err
				}
			}
			done += int64(len(part))
			if progress != nil {
				progress(done, int64(len(histories)))
			}
		}
	}
	var result hostgpu.Lessons
	var order []int
	for u, own := range lessons {
		at := start[u]
		for _, l := range own {
			for range l.Events {
				order = append(order, at)
				at++
			}
		}
		result.Lessons = append(result.Lessons, own...)
	}
	result.Targets = all.Arrange(order)
	return result, nil
}

// each calls f for 0 to n-1 on all processors and returns the error of the first
// that failed.
func each(ctx context.Context, n int, f func(i int) error) error {
	var wg sync.WaitGroup
	errs := make([]error, n)
	next := make(chan int)
	for range min(runtime.GOMAXPROCS(0), n) {
		wg.Go(func() {
			for i := range next {
				errs[i] = f(i)
			}
		})
	}
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// asker asks one teacher about users.
type asker struct {
	o         LessonOptions
	teacher   Teacher
	items     int
	whole     eval.Sequencer // fitted on all histories
	histories [][]data.Interaction
	known     []bool // items with events
	usual     uint8  // the most frequent kind of event

	mu   sync.Mutex
	near [][]int32 // what the teacher expects after an item alone; nil where not asked yet
}

// user returns the lessons of a user and what the teacher, out being the one that
// has not seen this user, says of them.
func (a *asker) user(ctx context.Context, u int, out eval.Sequencer) ([]hostgpu.Lesson, *hostgpu.SoftTargets, error) {
	h := a.histories[u]
	targets := hostgpu.NewSoftTargets(a.items, a.o.Top)
	own := hostgpu.Lesson{User: u, Events: h, Next: make([]int32, len(h))}
	for i := range h {
		own.Next[i] = -1
		if i+1 < len(h) {
			own.Next[i] = h[i+1].Item
		}
	}
	lessons := []hostgpu.Lesson{own}
	if err := a.ask(ctx, targets, out, a.whole, u, h); err != nil {
		return nil, nil, err
	}
	rng := rand.New(rand.NewPCG(a.o.Seed, uint64(u)<<8|0xa6))
	for range a.o.Augment {
		made, err := a.made(ctx, rng, out, u)
		if err != nil {
			return nil, nil, err
		}
		next := make([]int32, len(made))
		for i := range next {
			next[i] = -1
		}
		if err := a.ask(ctx, targets, out, out, u, made); err != nil {
			return nil, nil, err
		}
		lessons = append(lessons, hostgpu.Lesson{User: u, Events: made, Next: next})
	}
	return lessons, targets, nil
}

// ask adds what a teacher says after each event of h; after the last it is that of
// last.
func (a *asker) ask(ctx context.Context, targets *hostgpu.SoftTargets, out, last eval.Sequencer, u int, h []data.Interaction) error {
	const block = 128
	had := make([]bool, a.items)
	scores := make([]float32, min(block, len(h))*a.items)
	for lo := 0; lo < len(h); lo += block {
		hi := min(lo+block, len(h))
		if err := out.Sequence(ctx, scores[:(hi-lo)*a.items], int32(u), h, lo, hi); err != nil {
			return err
		}
		if hi == len(h) && last != out {
			if err := last.Scores(ctx, scores[(hi-1-lo)*a.items:(hi-lo)*a.items], int32(u), h); err != nil {
				return err
			}
		}
		for i := lo; i < hi; i++ {
			had[h[i].Item] = true
			if err := targets.Add(without(scores[(i-lo)*a.items:(i-lo+1)*a.items], had), a.teacher.Temperature*a.o.Temperature); err != nil {
				return fmt.Errorf("%w (event %d of user %d)", err, i, u)
			}
		}
	}
	return nil
}

// without gives the items that a user has had no chance, unless that is all.
func without(scores []float32, had []bool) []float32 {
	if !slices.Contains(had, false) {
		return scores
	}
	for i, h := range had {
		if h {
			scores[i] = float32(math.Inf(-1))
		}
	}
	return scores
}
