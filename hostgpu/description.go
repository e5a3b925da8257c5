package hostgpu

import "gorgonia.org/tensor"

// description computes y_r = x_r + drop(W·f_u) for the user u of row r, (P, D):
// what is said of the users meets what their events say. W is (D, F); the given
// vectors f_u are the rows of given, (U, F). A row of no user, u < 0, is passed on.
// Rows of a user stand together, and share one product and one mask.
type description struct {
	p, d, f int
	given   []float32
	drop    *dropout

	users, runs                  []int  // (R) user of each run, (P) run of each row or -1, for R runs
	run                          index  // the latter
	texts, projected, dprojected vector // (R, F), (R, D), (R, D)
}

// Positions of the inputs.
const (
	describedX = iota
	describedWeight
	describedUser
)

func (k *description) inputs() []input {
	return []input{{shape: k.shape()}, {shape: tensor.Shape{k.d, k.f}}, {shape: tensor.Shape{k.p}, index: true}}
}
func (k *description) shape() tensor.Shape { return tensor.Shape{k.p, k.d} }

func (k *description) forward(dev device, out vector, in []argument) {
	k.users, k.runs = k.users[:0], resize(k.runs, k.p)
	last := -1
	for r, u := range in[describedUser].ints.host {
		if k.runs[r] = -1; u >= 0 {
			if u != last {
				k.users = append(k.users, u)
			}
			k.runs[r] = len(k.users) - 1
		}
		last = u
	}
	n := len(k.users)
	k.texts, k.projected = dev.resize(k.texts, n*k.f), dev.resize(k.projected, n*k.d)
	dev.gather(k.texts, dev.mirror(k.given), dev.indices(k.users), k.f)
	dev.gemm(false, true, n, k.d, k.f, 1, k.texts, k.f, in[describedWeight].floats, k.f, 0, k.projected, k.d)
	k.drop.apply(dev, k.projected)
	dev.copy(out, in[describedX].floats)
	k.run = dev.indices(k.runs)
	dev.gatherAdd(out, k.projected, k.run, vector{}, k.d)
}

func (k *description) backward(dev device, grads []vector, dout, _ vector, _ []argument) {
	n := len(k.users)
	dev.copy(grads[describedX], dout)
	dev.fill(grads[describedWeight], 0)
	if n == 0 {
		return
	}
	k.dprojected = dev.resize(k.dprojected, k.projected.n)
	dev.fill(k.dprojected, 0)
	dev.scatterAdd(k.dprojected, dout, k.run, vector{}, 1, k.d)
	k.drop.backward(dev, k.dprojected, k.dprojected)
	dev.gemm(true, false, k.d, k.f, n, 1, k.dprojected, k.d, k.texts, k.f, 0, grads[describedWeight], k.f)
}
