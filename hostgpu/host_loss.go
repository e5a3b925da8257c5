package hostgpu

import (
	"math"

	"github.com/wisp-project/wisp/internal/vec"
)

func (hostDevice) crossEntropy(z, bias vector, targets index, n int, smoothing, inv float32, losses vector) {
	loss := fullSoftmax{n: n, smoothing: smoothing}
	parallel(losses.n, func(_, lo, hi int) {
		for r := lo; r < hi; r++ {
			row := z.host[r*n : (r+1)*n]
			if bias.n > 0 {
				vec.Add(row, bias.host)
			}
			losses.host[r] = loss.row(row, targets.host[r], inv)
		}
	})
}

// logitsInCache is how many logits a processor works on at a time, 1 MB, unless
// that makes fewer than leastRows rows: a product of so few rows would take less time
// than the library needs to lay out the other matrix for it.
const (
	logitsInCache = 1 << 18
	leastRows     = 64
)

// Each processor takes a stretch of rows and makes their logits in chunks that stay in
// its cache, so that memory does not grow with the batch.
func (hostDevice) catalogue(c *overCatalogue, loss catalogueLoss, users, items vector, p, n, d int) {
	u, v := users.host, items.host
	chunk := min(max(logitsInCache/n, leastRows), p)
	if c.logits == nil {
		c.logits, c.parts = make([][]float32, parts()), make([][]float32, parts())
	}
	for part := range c.parts {
		clear(c.parts[part])
	}
	parallel(p, func(part, from, to int) {
		z, dv := resize(c.logits[part], chunk*n), resize(c.parts[part], len(v))
		c.logits[part], c.parts[part] = z, dv
		for lo := from; lo < to; lo += chunk {
			hi := min(lo+chunk, to)
			rows := u[lo*d : hi*d]
			gemmOne(false, true, hi-lo, n, d, 1, rows, d, v, d, 0, z, n)
			for r := lo; r < hi; r++ {
				c.losses.host[r] = loss.rowLoss(part, r, z[(r-lo)*n:(r-lo+1)*n])
			}
			gemmOne(false, false, hi-lo, d, n, 1, z, n, v, d, 0, c.du.host[lo*d:], d)
			gemmOne(true, false, n, d, hi-lo, 1, z, n, rows, d, 1, dv, d)
		}
	})
}

func (hostDevice) catalogueItems(c *overCatalogue, dv vector, scale float32) {
	clear(dv.host)
	for _, part := range c.parts {
		for i, x := range part {
			dv.host[i] += x * scale
		}
	}
}

func (hostDevice) sampledRows(k *sampledSoftmax, logits, users, items vector, lo, hi int, inv float32) {
	d, s, width := k.d, k.s, k.s+1
	parallel(hi-lo, func(_, a, b int) {
		for r := a; r < b; r++ {
			row, target := logits.host[r*width:(r+1)*width], k.targets.host[lo+r]
			k.losses.host[lo+r], k.dtarget.host[lo+r] = 0, 0
			if target < 0 {
				clear(row)
				continue
			}
			for j := range s {
				row[j] -= k.corrections[j]
				if k.samples.host[j] == target {
					row[j] = float32(math.Inf(-1))
				}
			}
			ur, vt := users.host[(lo+r)*d:(lo+r+1)*d], items.host[target*d:(target+1)*d]
			at := vec.Dot(ur, vt)
			row[s] = at
			k.losses.host[lo+r] = softmax(row, inv) - at
			k.dtarget.host[lo+r] = row[s] - inv
		}
	})
}

func (hostDevice) contrast(k *contrastive, n int, groups index) {
	inv := 1 / float32(max(n, 1))
	parallel(n, func(_, lo, hi int) {
		for i := lo; i < hi; i++ {
			row := k.dz.host[i*n : (i+1)*n]
			right := func(j int) bool { return groups.host[j] == groups.host[i] && j != i }
			var total, answers float32 // of the logits that count
			for j, z := range row {
				if right(j) {
					row[j] = float32(math.Inf(-1)) // whose share and gradient are 0
					continue
				}
				total += z
				answers++
			}
			at, off := row[i], k.smoothing/answers
			k.losses.host[i] = softmax(row, inv) - (1-k.smoothing)*at - off*total
			row[i] -= (1 - k.smoothing) * inv
			for j := range row {
				if !right(j) {
					row[j] -= off * inv
				}
			}
		}
	})
}
