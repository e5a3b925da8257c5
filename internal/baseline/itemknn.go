package baseline

import (
	"context"
	"fmt"
	"math"
	"sync"

	"gonum.org/v1/gonum/blas/blas32"

	"github.com/wisp-project/wisp/internal/data"
)

// ItemKNNOptions says how ItemKNN reads a history. The zero value is ready to
// use.
type ItemKNNOptions struct {
	// Recency makes the last 20 events count, each 0.8 times as much as the one
	// after it, in place of all items alike.
	Recency bool
}

// ItemKNN scores an item by its cosine similarity to the items of the history,
// summed over all of them: the columns compared are the items' sets of users.
// There is no limit to the number of neighbours, and an item is none of its own.
type ItemKNN struct {
	opts      ItemKNNOptions
	itemsOf   [][]int32 // by user, ascending
	usersOf   [][]int32 // by item, ascending
	norm      []float64 // by item: 1/sqrt(users), 0 of an item without users
	workspace sync.Pool // of *knnWorkspace
}

// knnWorkspace is what one call of Scores writes to; all zero between calls.
type knnWorkspace struct {
	affinity []float64 // by user
	touched  []int32   // the users whose affinity is not 0
	sums     []float64 // by item
}

// NewItemKNN fits ItemKNN on histories over the given number of items. The
// similarities are not kept but summed over users for each question, so that
// memory is 8 bytes for each pair of user and item and one question visits each
// such pair at most twice. The error is ErrInput.
func NewItemKNN(histories [][]data.Interaction, items int, opts ItemKNNOptions) (*ItemKNN, error) {
	m := &ItemKNN{opts: opts}
	if err := checkFit(m.Name(), histories, items); err != nil {
		return nil, err
	}
	m.itemsOf = make([][]int32, len(histories))
	m.usersOf = make([][]int32, items)
	m.norm = make([]float64, items)
	for i, n := range userCounts(histories, items) {
		if n > 0 {
			m.usersOf[i] = make([]int32, 0, n)
			m.norm[i] = 1 / math.Sqrt(float64(n))
		}
	}
	for u, h := range histories {
		m.itemsOf[u] = distinct(h)
		for _, item := range m.itemsOf[u] {
			m.usersOf[item] = append(m.usersOf[item], int32(u))
		}
	}
	m.workspace.New = func() any {
		return &knnWorkspace{affinity: make([]float64, len(histories)), sums: make([]float64, items)}
	}
	return m, nil
}

// Name returns "itemknn" or "itemknn-recency".
func (m *ItemKNN) Name() string {
	if m.opts.Recency {
		return "itemknn-recency"
	}
	return "itemknn"
}

// Scores writes the summed similarities to dst. See eval.Scorer.
func (m *ItemKNN) Scores(_ context.Context, dst []float32, _ int32, history []data.Interaction) error {
	if err := checkQuery(m.Name(), dst, history, len(m.norm)); err != nil {
		return err
	}
	ws := m.workspace.Get().(*knnWorkspace)
	defer m.workspace.Put(ws)
	weights := profile(history, m.opts.Recency)
	for _, w := range weights {
		for _, u := range m.usersOf[w.item] {
			if ws.affinity[u] == 0 {
				ws.touched = append(ws.touched, u)
			}
			ws.affinity[u] += float64(w.value) * m.norm[w.item]
		}
	}
	for _, u := range ws.touched {
		for _, item := range m.itemsOf[u] {
			ws.sums[item] += ws.affinity[u]
		}
		ws.affinity[u] = 0
	}
	ws.touched = ws.touched[:0]
	for i, sum := range ws.sums {
		ws.sums[i] = sum * m.norm[i]
	}
	for _, w := range weights {
		if m.norm[w.item] > 0 {
			ws.sums[w.item] -= float64(w.value) // the similarity of the item to itself is 1
		}
		// What is left where there is no other similarity is a rounding error.
		if ws.sums[w.item] < 1e-12 {
			ws.sums[w.item] = 0
		}
	}
	for i, sum := range ws.sums {
		dst[i] = float32(sum)
	}
	clear(ws.sums)
	return nil
}

// Sequence writes the scores after each of the events lo to hi-1 of history to dst,
// (hi-lo, N), but for rounding those of Scores: the similarities of an item are summed
// once and not for each event that it is in the profile of. See eval.Sequencer.
func (m *ItemKNN) Sequence(ctx context.Context, dst []float32, _ int32, history []data.Interaction, lo, hi int) error {
	n := len(m.norm)
	if lo < 0 || lo > hi || hi > len(history) || len(dst) != (hi-lo)*n {
		return fmt.Errorf("%w: %s: events %d to %d of %d, with room for %d scores", ErrInput, m.Name(), lo, hi, len(history), len(dst))
	}
	if item, ok := outside(history, n); ok {
		return fmt.Errorf("%w: %s: history names item %d of a catalogue of %d", ErrInput, m.Name(), item, n)
	}
	rows := map[int32][]float32{}
	for i := lo; i < hi; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		out := dst[(i-lo)*n : (i-lo+1)*n]
		clear(out)
		sum := blas32.Vector{N: n, Data: out, Inc: 1}
		for _, w := range profile(history[:i+1], m.opts.Recency) {
			row := rows[w.item]
			if row == nil {
				row = m.similarities(w.item)
				rows[w.item] = row
			}
			blas32.Axpy(w.value, blas32.Vector{N: n, Data: row, Inc: 1}, sum)
		}
	}
	return nil
}

// similarities returns the cosine of an item to all others, and 0 to itself.
func (m *ItemKNN) similarities(item int32) []float32 {
	row := make([]float32, len(m.norm))
	for _, u := range m.usersOf[item] {
		for _, other := range m.itemsOf[u] {
			row[other]++
		}
	}
	for i, count := range row {
		row[i] = float32(float64(count) * m.norm[item] * m.norm[i])
	}
	row[item] = 0
	return row
}
