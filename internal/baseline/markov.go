package baseline

import (
	"context"
	"math"
	"slices"

	"github.com/wisp-project/wisp/internal/data"
)

// markovSteps is how far apart two events may be to count as a transition.
const markovSteps = 5

// Markov scores an item by how often it came soon after the last 20 items of the
// history. A transition over d events, at most 5, counts 1/d; the count is
// divided by sqrt(users of the item)+1, or popular items would follow
// everything. The event of age a in the history weighs 0.8^a.
type Markov struct {
	start []int // row i is entries start[i] to start[i+1]
	next  []int32
	value []float32
}

// NewMarkov counts the transitions of histories over the given number of items.
// They are kept sparse: 8 bytes for each different pair, of which there are at
// most 5 for each event. Fitting takes another 40 bytes for each event. The error
// is ErrInput.
func NewMarkov(histories [][]data.Interaction, items int) (*Markov, error) {
	m := new(Markov)
	if err := checkFit(m.Name(), histories, items); err != nil {
		return nil, err
	}
	steps := newStepLists(histories, items)
	damping := make([]float64, items)
	for i, n := range userCounts(histories, items) {
		damping[i] = 1 / (math.Sqrt(float64(n)) + 1)
	}
	m.start = make([]int, 1, items+1)
	counts := make([]float64, items)
	for i := range items {
		row := steps.of(i)
		first := len(m.next)
		for _, s := range row {
			if counts[s.item] == 0 {
				m.next = append(m.next, s.item)
			}
			counts[s.item] += float64(s.value)
		}
		slices.Sort(m.next[first:])
		for _, item := range m.next[first:] {
			m.value = append(m.value, float32(counts[item]*damping[item]))
			counts[item] = 0
		}
		m.start = append(m.start, len(m.next))
	}
	m.next, m.value = slices.Clip(m.next), slices.Clip(m.value)
	return m, nil
}

// Name returns "markov".
func (m *Markov) Name() string { return "markov" }

// Scores writes the weighted transition counts to dst. See eval.Scorer.
func (m *Markov) Scores(_ context.Context, dst []float32, _ int32, history []data.Interaction) error {
	if err := checkQuery(m.Name(), dst, history, len(m.start)-1); err != nil {
		return err
	}
	clear(dst)
	for _, w := range profile(history, true) {
		for k := m.start[w.item]; k < m.start[w.item+1]; k++ {
			dst[m.next[k]] += w.value * m.value[k]
		}
	}
	return nil
}

// stepLists holds the transitions of all histories by the item they start from.
type stepLists struct {
	end   []int // list i ends at entry end[i], where list i+1 starts
	steps []weight
}

func newStepLists(histories [][]data.Interaction, items int) *stepLists {
	l := &stepLists{end: make([]int, items)}
	each := func(visit func(from, to int32, distance int)) {
		for _, h := range histories {
			for a := range h {
				for b := a + 1; b <= a+markovSteps && b < len(h); b++ {
					visit(h[a].Item, h[b].Item, b-a)
				}
			}
		}
	}
	sizes := make([]int, items)
	total := 0
	each(func(from, _ int32, _ int) { sizes[from]++; total++ })
	for i := 1; i < items; i++ {
		l.end[i] = l.end[i-1] + sizes[i-1]
	}
	// Until filled, end[i] is where the next entry of list i goes.
	l.steps = make([]weight, total)
	each(func(from, to int32, distance int) {
		l.steps[l.end[from]] = weight{to, 1 / float32(distance)}
		l.end[from]++
	})
	return l
}

// of returns the transitions that start from an item, in order of the histories.
func (l *stepLists) of(item int) []weight {
	if item == 0 {
		return l.steps[:l.end[0]]
	}
	return l.steps[l.end[item-1]:l.end[item]]
}
