package hostgpu

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
)

// towerRatings are ratings with what is known before each of them.
type towerRatings struct {
	head  *model.RatingHead
	m     *model.Model
	rated []bool // which event types are ratings

	users []float32 // (n, D) user vectors
	item  []int32
	value []float32
	base  []float32 // mean and biases
}

// add adds the ratings among the events of a user, from the given one on.
func (x *towerRatings) add(ctx context.Context, s *Scorer, user int32, history []data.Interaction, from int) error {
	if from >= len(history) {
		return nil
	}
	d, reach := x.m.Config.Dim, x.m.Config.Reach()
	var before []float32 // user vectors before event from and those behind it
	if from == 0 {
		before = slices.Clone(x.m.Weights[model.UserCold].Data)
		if s.descriptions != nil {
			if err := s.describe(before, user); err != nil {
				return err
			}
		}
	}
	if err := s.Users(ctx, user, history, max(0, from-1), len(history)-1, func(u []float32) { before = append(before, u...) }); err != nil {
		return err
	}
	events := Events(history)
	for t, e := range history[from:] {
		if !x.rated[e.Type] {
			continue
		}
		x.users = append(x.users, before[t*d:(t+1)*d]...)
		x.item, x.value = append(x.item, e.Item), append(x.value, e.Value)
		past := events[max(0, from+t-reach) : from+t]
		x.base = append(x.base, x.head.Mean+x.head.Items[e.Item]+x.head.UserBias(past))
	}
	return nil
}

// batch writes the user vectors of the ratings at some places to u and what the map
// makes of them to q, both (len(places), D).
func (x *towerRatings) batch(u, q []float32, places []int) {
	d := x.m.Config.Dim
	for r, i := range places {
		copy(u[r*d:(r+1)*d], x.users[i*d:])
	}
	linear(host, onHost(q), onHost(u), onHost(x.head.Map.Data), onHost(x.head.MapBias), d, d)
}

// predict is the rating at place i, which q, (D), leads to; not cut yet.
func (x *towerRatings) predict(i int, q []float32) float32 {
	y, v := x.base[i], x.m.ItemVectors.Row(int(x.item[i]))
	for j := range v {
		y += q[j] * v[j]
	}
	return y
}

// rmse is the root of the mean squared error over all ratings, 0 where there are none.
func (x *towerRatings) rmse() float64 {
	const block = 1024
	n, d, sum := len(x.value), x.m.Config.Dim, 0.0
	places, u, q := make([]int, block), make([]float32, block*d), make([]float32, block*d)
	for lo := 0; lo < n; lo += block {
		k := min(block, n-lo)
		for r := range k {
			places[r] = lo + r
		}
		x.batch(u[:k*d], q[:k*d], places[:k])
		for r, i := range places[:k] {
			y := min(max(x.predict(i, q[r*d:(r+1)*d]), x.head.Low), x.head.High)
			sum += float64(y-x.value[i]) * float64(y-x.value[i])
		}
	}
	return math.Sqrt(sum / float64(max(n, 1)))
}

// descend fits map and bias. It keeps the epoch of the least error on held, the last
// one where held is empty.
func (x *towerRatings) descend(ctx context.Context, held *towerRatings, opts TowerRatingOptions) (TowerRatingFit, error) {
	n, d := len(x.value), x.m.Config.Dim
	fit := TowerRatingFit{Cases: len(held.value), RMSE: held.rmse()}
	fit.Biases = fit.RMSE
	order := rand.New(rand.NewPCG(opts.Seed, 1))
	batch := min(opts.Batch, n)
	weight, bias := x.head.Map, &model.Tensor{Shape: []int{d}, Data: x.head.MapBias}
	best := [2][]float32{slices.Clone(weight.Data), slices.Clone(bias.Data)}
	u, q, dq, du := make([]float32, batch*d), make([]float32, batch*d), make([]float32, batch*d), make([]float32, batch*d)
	dw, db := make([]float32, d*d), make([]float32, d)
	adam := newAdamW(0) // L2 is part of the loss
	s := Schedule{Peak: opts.LearningRate, Steps: opts.Epochs * (n / batch)}
	step := 0
	for epoch := range opts.Epochs {
		places := order.Perm(n)
		for ; len(places) >= batch; places = places[batch:] {
			if err := ctx.Err(); err != nil {
				return fit, err
			}
			x.batch(u, q, places[:batch])
			var loss float64
			for r, i := range places[:batch] {
				e := x.predict(i, q[r*d:(r+1)*d]) - x.value[i]
				loss += float64(e) * float64(e)
				for j, v := range x.m.ItemVectors.Row(int(x.item[i])) {
					dq[r*d+j] = 2 * e / float32(batch) * v
				}
			}
			if math.IsNaN(loss) || math.IsInf(loss, 0) {
				return fit, fmt.Errorf("%w: ratings: the loss is %v after %d steps; a smaller learning rate may help", ErrDiverged, loss, step)
			}
			linearBackward(host, onHost(du), onHost(dw), onHost(db), onHost(dq), onHost(u), onHost(weight.Data), d, d)
			for i, w := range weight.Data {
				dw[i] += float32(2*opts.L2) * w
			}
			adam.next()
			adam.update(host, "map", weight, onHost(dw), s.Rate(step), 1)
			adam.update(host, "bias", bias, onHost(db), s.Rate(step), 1)
			step++
		}
		if e := held.rmse(); fit.Cases == 0 || e < fit.RMSE {
			fit.Epochs, fit.RMSE = epoch+1, e
			copy(best[0], weight.Data)
			copy(best[1], bias.Data)
		}
	}
	copy(weight.Data, best[0])
	copy(bias.Data, best[1])
	return fit, nil
}
