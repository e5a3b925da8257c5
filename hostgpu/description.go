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

	runs                         [][2]int  // rows [from, to) of one user
	texts, projected, dprojected []float32 // (R, F), (R, D), (R, D) for R runs
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

func (k *description) forward(out []float32, in []argument) {
	k.runs, k.texts = k.runs[:0], k.texts[:0]
	users := in[describedUser].ints
	for from := 0; from < k.p; {
		u, to := users[from], from+1
		for to < k.p && users[to] == u {
			to++
		}
		if u >= 0 {
			k.runs = append(k.runs, [2]int{from, to})
			k.texts = append(k.texts, k.given[u*k.f:(u+1)*k.f]...)
		}
		from = to
	}
	k.projected = resize(k.projected, len(k.runs)*k.d)
	gemm(false, true, len(k.runs), k.d, k.f, 1, k.texts, k.f, in[describedWeight].floats, k.f, 0, k.projected, k.d)
	k.drop.apply(k.projected)
	copy(out, in[describedX].floats)
	for i, run := range k.runs {
		for r := run[0]; r < run[1]; r++ {
			add(out[r*k.d:(r+1)*k.d], k.projected[i*k.d:])
		}
	}
}

func (k *description) backward(grads [][]float32, dout, _ []float32, _ []argument) {
	copy(grads[describedX], dout)
	if len(k.runs) == 0 {
		clear(grads[describedWeight])
		return
	}
	k.dprojected = resize(k.dprojected, len(k.projected))
	clear(k.dprojected)
	for i, run := range k.runs {
		for r := run[0]; r < run[1]; r++ {
			add(k.dprojected[i*k.d:(i+1)*k.d], dout[r*k.d:])
		}
	}
	k.drop.backward(k.dprojected, k.dprojected)
	gemm(true, false, k.d, k.f, len(k.runs), 1, k.dprojected, k.d, k.texts, k.f, 0, grads[describedWeight], k.f)
}
