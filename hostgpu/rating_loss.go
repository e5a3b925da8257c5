package hostgpu

import (
	"math"
	"slices"

	"gorgonia.org/tensor"

	"github.com/wisp-project/wisp/internal/data"
)

// ratingRows holds the row of each user and each item: bias, then vector.
type ratingRows struct {
	users, items []float32 // (users, width) and (items, width), row-major
	width        int
}

// predict is θ(u)ᵀx(v).
func (r *ratingRows) predict(user, item int32) float32 {
	p, q := r.users[int(user)*r.width:][:r.width], r.items[int(item)*r.width:][:r.width]
	y := p[0] + q[0]
	for j := 1; j < len(p); j++ {
		y += p[j] * q[j]
	}
	return y
}

func (r *ratingRows) clone() ratingRows {
	return ratingRows{slices.Clone(r.users), slices.Clone(r.items), r.width}
}

// ratingExamples are ratings in columns, user by user.
type ratingExamples struct {
	user, item []int32
	value      []float32
	byUser     []int // the ratings of user u are byUser[u] to byUser[u+1]
	byItem     []int // those of item v are order[byItem[v]] to order[byItem[v+1]]
	order      []int
}

func newRatingExamples(histories [][]data.Interaction, items int) *ratingExamples {
	x := &ratingExamples{byUser: []int{0}, byItem: make([]int, items+1)}
	for u, h := range histories {
		for _, e := range h {
			x.user, x.item, x.value = append(x.user, int32(u)), append(x.item, e.Item), append(x.value, e.Value)
			x.byItem[e.Item+1]++
		}
		x.byUser = append(x.byUser, len(x.value))
	}
	for v := range items {
		x.byItem[v+1] += x.byItem[v]
	}
	x.order = make([]int, len(x.value))
	next := slices.Clone(x.byItem)
	for i, v := range x.item {
		x.order[next[v]] = i
		next[v]++
	}
	return x
}

// standardise counts the ratings from their mean in units of their standard
// deviation, and returns both. Equal ratings have the unit 1.
func (x *ratingExamples) standardise() (mean, scale float64) {
	n := float64(len(x.value))
	for _, y := range x.value {
		mean += float64(y)
	}
	mean /= n
	for _, y := range x.value {
		scale += (float64(y) - mean) * (float64(y) - mean)
	}
	if scale = math.Sqrt(scale / n); scale == 0 {
		scale = 1
	}
	for i, y := range x.value {
		x.value[i] = float32((float64(y) - mean) / scale)
	}
	return mean, scale
}

// ratingLoss is the regularised mean squared error of all n ratings,
//
//	1/2n · ( Σ (θ(u)ᵀx(v) - r)² + Σ l(f)·(λ|w(f)|² + μ·b(f)²) )
//
// over ratings (u, v, r) and features f with vector w and bias b; l(f) is the
// root of the number of ratings that f takes part in. Arguments are the tables
// of user features and of item features, (F, 1+D): bias, then vector. The whole
// loss is one kernel, and a graph of one node would gain nothing, so the head
// calls forward and backward without one.
type ratingLoss struct {
	users, items                 *sparseRows // features by user, by item
	byUserFeature, byItemFeature *sparseRows // the same, transposed
	userWeight, itemWeight       []float32   // l of their features
	x                            *ratingExamples
	width                        int
	l2, biasL2                   float32

	rows, grads ratingRows // of users and items as forward left them, and their gradients
	residual    []float32  // of ratings
}

func newRatingLoss(users, items *sparseRows, x *ratingExamples, opts RatingOptions) *ratingLoss {
	k := &ratingLoss{
		users: users, items: items, byUserFeature: users.transpose(), byItemFeature: items.transpose(), x: x,
		width: opts.Dim + 1, l2: float32(opts.L2), biasL2: float32(opts.BiasL2),
		residual: make([]float32, len(x.value)),
	}
	k.userWeight = penaltyWeights(k.byUserFeature, x.byUser)
	k.itemWeight = penaltyWeights(k.byItemFeature, x.byItem)
	for _, r := range []*ratingRows{&k.rows, &k.grads} {
		*r = ratingRows{make([]float32, users.rows()*k.width), make([]float32, items.rows()*k.width), k.width}
	}
	return k
}

// penaltyWeights returns the root of the number of ratings of each feature, at
// least 1, in which a row counts as much as it has of the feature, squared.
func penaltyWeights(byFeature *sparseRows, start []int) []float32 {
	shares := make([]float32, byFeature.rows())
	for f := range shares {
		rows, values := byFeature.row(f)
		var n float64
		for k, r := range rows {
			n += float64(start[r+1]-start[r]) * float64(values[k]) * float64(values[k])
		}
		shares[f] = float32(math.Sqrt(max(n, 1)))
	}
	return shares
}

func (k *ratingLoss) inputs() []input {
	return []input{{shape: tensor.Shape{k.users.columns, k.width}}, {shape: tensor.Shape{k.items.columns, k.width}}}
}
func (k *ratingLoss) shape() tensor.Shape { return tensor.ScalarShape() }

func (k *ratingLoss) hostOnly() {}

func (k *ratingLoss) forward(_ device, out vector, in []argument) {
	k.users.times(k.rows.users, in[0].floats.host, k.width)
	k.items.times(k.rows.items, in[1].floats.host, k.width)
	sums := make([]float64, parts())
	parallel(k.users.rows(), func(part, lo, hi int) {
		for i := k.x.byUser[lo]; i < k.x.byUser[hi]; i++ {
			e := k.rows.predict(k.x.user[i], k.x.item[i]) - k.x.value[i]
			k.residual[i] = e
			sums[part] += float64(e) * float64(e)
		}
	})
	total := k.penalty(in[0].floats.host, k.userWeight) + k.penalty(in[1].floats.host, k.itemWeight)
	for _, s := range sums {
		total += s
	}
	out.host[0] = float32(total / float64(2*len(k.x.value)))
}

func (k *ratingLoss) penalty(table, weights []float32) float64 {
	sums := make([]float64, parts())
	parallel(len(weights), func(part, lo, hi int) {
		for f := lo; f < hi; f++ {
			row := table[f*k.width:][:k.width]
			squares := float32(0)
			for _, w := range row[1:] {
				squares += w * w
			}
			sums[part] += float64(weights[f] * (k.l2*squares + k.biasL2*row[0]*row[0]))
		}
	})
	total := 0.0
	for _, s := range sums {
		total += s
	}
	return total
}

func (k *ratingLoss) backward(_ device, grads []vector, dout, _ vector, in []argument) {
	scale := dout.host[0] / float32(len(k.x.value))
	parallel(k.users.rows(), func(_, lo, hi int) {
		for u := lo; u < hi; u++ {
			d := k.grads.users[u*k.width:][:k.width]
			clear(d)
			for i := k.x.byUser[u]; i < k.x.byUser[u+1]; i++ {
				accumulate(d, k.rows.items[int(k.x.item[i])*k.width:], k.residual[i]*scale)
			}
		}
	})
	parallel(k.items.rows(), func(_, lo, hi int) {
		for v := lo; v < hi; v++ {
			d := k.grads.items[v*k.width:][:k.width]
			clear(d)
			for _, i := range k.x.order[k.x.byItem[v]:k.x.byItem[v+1]] {
				accumulate(d, k.rows.users[int(k.x.user[i])*k.width:], k.residual[i]*scale)
			}
		}
	})
	k.byUserFeature.times(grads[0].host, k.grads.users, k.width)
	k.byItemFeature.times(grads[1].host, k.grads.items, k.width)
	k.shrink(grads[0].host, in[0].floats.host, k.userWeight, scale)
	k.shrink(grads[1].host, in[1].floats.host, k.itemWeight, scale)
}

// accumulate adds the gradient of one rating to that of its user, or its item,
// given the other's row: the derivative by the bias is 1, by the vector the
// other's vector.
func accumulate(d, other []float32, e float32) {
	other = other[:len(d)]
	d[0] += e
	for j := 1; j < len(d); j++ {
		d[j] += e * other[j]
	}
}

// shrink adds the gradient of the penalty.
func (k *ratingLoss) shrink(grad, table, weights []float32, scale float32) {
	parallel(len(weights), func(_, lo, hi int) {
		for f := lo; f < hi; f++ {
			g, w := grad[f*k.width:][:k.width], table[f*k.width:][:k.width]
			c := weights[f] * scale
			g[0] += c * k.biasL2 * w[0]
			for j := 1; j < len(g); j++ {
				g[j] += c * k.l2 * w[j]
			}
		}
	})
}
