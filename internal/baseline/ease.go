package baseline

import (
	"context"
	"fmt"

	"gonum.org/v1/gonum/blas/blas32"

	"github.com/wisp-project/wisp/internal/data"
)

// EASEOptions says how EASE is fitted and how it reads a history. The zero value
// is ready to use.
type EASEOptions struct {
	Lambda float64 // L2 regularisation; default 500
	// Recency makes the last 20 events count, each 0.8 times as much as the one
	// after it, in place of all items alike. The fit is the same.
	Recency bool
}

const (
	// DefaultLambda is the regularisation that EASEOptions takes where Lambda is 0.
	DefaultLambda = 500
	// MaxEASEItems is the largest catalogue that NewEASE accepts: 4 GiB of weights.
	MaxEASEItems = 1 << 15
)

// EASE is the linear autoencoder without self-weights of Steck, "Embarrassingly
// Shallow Autoencoders for Sparse Data", 2019. Its weights are the least-squares
// prediction of each item from all others.
type EASE struct {
	recency bool
	items   int
	weights []float32 // (items, items) row-major: from an item of the history to an item scored
}

// NewEASE fits EASE on histories over the given number of items N. It keeps N*N
// float32 and works in place: 1.6 GB and about 8e12 floating-point operations at
// N = 20,000. The error is ErrInput or ErrSingular.
func NewEASE(histories [][]data.Interaction, items int, opts EASEOptions) (*EASE, error) {
	m := &EASE{recency: opts.Recency, items: items}
	if err := checkFit(m.Name(), histories, items); err != nil {
		return nil, err
	}
	if items > MaxEASEItems {
		return nil, fmt.Errorf("%w: %s over a catalogue of %d items; want at most %d: drop items of few events, or use itemknn", ErrInput, m.Name(), items, MaxEASEItems)
	}
	lambda := opts.Lambda
	if lambda == 0 {
		lambda = DefaultLambda
	}
	if !(lambda > 0) {
		return nil, fmt.Errorf("%w: %s: Lambda %g; want 0 for the default, or more", ErrInput, m.Name(), lambda)
	}
	m.weights = make([]float32, items*items)
	m.countPairs(histories)
	for i := range items {
		m.weights[i*items+i] += float32(lambda)
	}
	if err := negateInverse(blas32.General{Rows: items, Cols: items, Stride: items, Data: m.weights}); err != nil {
		return nil, fmt.Errorf("%s, Lambda %g: %w", m.Name(), lambda, err)
	}
	m.normalise()
	return m, nil
}

// WithRecency returns an EASE of the same fit that reads histories with recency
// or without. Both share the weights.
func (m *EASE) WithRecency(recency bool) *EASE {
	return &EASE{recency: recency, items: m.items, weights: m.weights}
}

// Name returns "ease" or "ease-recency".
func (m *EASE) Name() string {
	if m.recency {
		return "ease-recency"
	}
	return "ease"
}

// Scores writes the summed weights to dst. See eval.Scorer.
func (m *EASE) Scores(_ context.Context, dst []float32, _ int32, history []data.Interaction) error {
	if err := checkQuery(m.Name(), dst, history, m.items); err != nil {
		return err
	}
	clear(dst)
	sum := blas32.Vector{N: m.items, Data: dst, Inc: 1}
	for _, w := range profile(history, m.recency) {
		row := m.weights[int(w.item)*m.items:][:m.items]
		blas32.Axpy(w.value, blas32.Vector{N: m.items, Data: row, Inc: 1}, sum)
	}
	return nil
}

// countPairs adds to the upper triangle how many users have both items.
func (m *EASE) countPairs(histories [][]data.Interaction) {
	for _, h := range histories {
		items := distinct(h)
		for k, i := range items {
			row := m.weights[int(i)*m.items:][:m.items]
			for _, j := range items[k:] {
				row[j]++
			}
		}
	}
}

// normalise turns the upper triangle of -P, P being the inverse, into the
// weights P[i,j]/-P[j,j], with a zero diagonal.
func (m *EASE) normalise() {
	n := m.items
	inverse := make([]float32, n) // the diagonal of P
	for i := range n {
		inverse[i] = -m.weights[i*n+i]
		m.weights[i*n+i] = 0
	}
	for i := range n {
		for j := i + 1; j < n; j++ {
			v := m.weights[i*n+j]
			m.weights[i*n+j] = v / inverse[j]
			m.weights[j*n+i] = v / inverse[i]
		}
	}
}
