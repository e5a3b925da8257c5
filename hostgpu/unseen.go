package hostgpu

import (
	"fmt"
	"maps"
	"math"

	"gonum.org/v1/gonum/mat"

	"github.com/wisp-project/wisp/internal/vec"
	"github.com/wisp-project/wisp/model"
)

// fitFeatures returns the W_feat, (D, F), that says most of items of which nothing
// else is known: the ridge regression of the item vectors v_i, (N, D), on the given
// vectors f_i, (N, F), over the items with events,
//
//	sum over i of n/(n+10)·|v_i - W·f_i|² + shrink·|W|²    for n events of item i
//
// stretched until its vectors are as long as those of these items: a regression
// comes out nearer to zero than what it predicts, and items with such vectors would
// hardly ever be shown among others. An item of few events has a vector that was
// hardly learnt. Training itself has no reason to let W say what a learnt embedding
// can say as well. What W was is returned where no item has both events and a vector.
func fitFeatures(was, v, f *model.Tensor, counts []float64) (*model.Tensor, error) {
	const (
		known  = 10 // events after which half of an item's vector is its own
		shrink = 1  // times the mean of the squares that it is added to
	)
	n, d, width := v.Shape[0], v.Shape[1], f.Shape[1]
	weighted := model.NewTensor(n, width)
	for i, c := range counts {
		vec.Scale(weighted.Row(i), f.Row(i), float32(c/(c+known)))
	}
	square, cross := make([]float32, width*width), make([]float32, width*d)
	gemm(true, false, width, width, n, 1, weighted.Data, width, f.Data, width, 0, square, width)
	gemm(true, false, width, d, n, 1, weighted.Data, width, v.Data, d, 0, cross, d)
	var trace float64
	for j := range width {
		trace += float64(square[j*width+j])
	}
	if trace == 0 {
		return was, nil
	}
	a, b := mat.NewSymDense(width, nil), mat.NewDense(width, d, nil)
	for j := range width {
		for k := j; k < width; k++ {
			a.SetSym(j, k, float64(square[j*width+k]))
		}
		a.SetSym(j, j, a.At(j, j)+shrink*trace/float64(width))
		for k := range d {
			b.Set(j, k, float64(cross[j*d+k]))
		}
	}
	var chol mat.Cholesky
	var x mat.Dense
	if !chol.Factorize(a) {
		return nil, fmt.Errorf("%w: the item vectors have no regression on the given vectors", ErrDiverged)
	}
	if err := chol.SolveTo(&x, b); err != nil {
		return nil, fmt.Errorf("%w: regression on the given item vectors: %w", ErrDiverged, err)
	}
	w := model.NewTensor(d, width)
	for j := range width {
		for k := range d {
			w.Row(k)[j] = float32(x.At(j, k))
		}
	}
	predicted := model.NewTensor(n, d)
	gemm(false, true, n, d, width, 1, f.Data, width, w.Data, width, 0, predicted.Data, d)
	var actual, reached float64
	for i, c := range counts {
		actual += c / (c + known) * squaredNorm(v.Row(i))
		reached += c / (c + known) * squaredNorm(predicted.Row(i))
	}
	if reached > 0 {
		vec.Scale(w.Data, w.Data, float32(math.Sqrt(actual/reached)))
	}
	return w, nil
}

// refitted returns the weights w with the W_feat of fitFeatures. The vectors of
// items with events stay as they are: what W says more or less of them goes to
// their embeddings. Validation does without: its questions are about such items,
// and others that grow with every epoch would end the training early.
func (t *Trainer) refitted(w model.Weights) (model.Weights, error) {
	f := t.ItemVectors()
	if f == nil {
		return w, nil
	}
	m, err := model.New(t.cfg, w, f)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDiverged, err)
	}
	features, err := fitFeatures(w[model.ItemFeatures], m.ItemVectors, f, t.counts)
	if err != nil {
		return nil, err
	}
	own := m.ItemVectors
	n, d, width := t.cfg.Items, t.cfg.Dim, t.cfg.Features
	gemm(false, true, n, d, width, -1, f.Data, width, features.Data, width, 1, own.Data, d)
	for i, c := range t.counts {
		if c == 0 {
			copy(own.Row(i), w[model.ItemEmbedding].Row(i))
		}
	}
	refit := maps.Clone(w)
	refit[model.ItemEmbedding], refit[model.ItemFeatures] = own, features
	return refit, nil
}
