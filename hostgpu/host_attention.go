package hostgpu

import (
	"math"

	"github.com/wisp-project/wisp/internal/vec"
)

// split returns the parts of a packed (P, 3D) array that belong to the row that
// begins at start and to head h: q, k and v rows, each with stride 3D.
func (a *heads) split(qkv []float32, start, h int) (q, k, v []float32) {
	base := start*3*a.d + h*(a.d/a.h)
	return qkv[base:], qkv[base+a.d:], qkv[base+2*a.d:]
}

// Scores of a row and head are one matrix product; what must not be seen is computed
// and thrown away, which BLAS does faster than a loop over what may.
func (hostDevice) attend(a *heads, s sight) {
	d, hd := a.d, a.d/a.h
	scale := float32(1 / math.Sqrt(float64(hd)))
	parallel(a.rows()*a.h, func(_, lo, hi int) {
		for bh := lo; bh < hi; bh++ {
			b, h := bh/a.h, bh%a.h
			from, t := a.at(b)
			q, k, v := a.split(a.qkv.host, from, h)
			p := a.probs.host[bh*a.t*a.t:][:t*t]
			gemmOne(false, true, t, t, hd, scale, q, 3*d, k, 3*d, 0, p, t)
			if s.window > 0 {
				s.bandProbabilities(p, b, h, t)
			} else {
				textProbabilities(p, s.lengths.host[b], t)
			}
			gemmOne(false, false, t, hd, t, 1, p, t, v, 3*d, 0, a.context.host[from*d+h*hd:], d)
		}
	})
}

func (hostDevice) attendBackward(a *heads, s sight, ddistance vector) {
	d, hd := a.d, a.d/a.h
	a.ds, a.partial = resize(a.ds, parts()*a.t*a.t), resize(a.partial, parts()*ddistance.n)
	clear(a.partial)
	scale := float32(1 / math.Sqrt(float64(hd)))
	parallel(a.rows()*a.h, func(part, lo, hi int) {
		for bh := lo; bh < hi; bh++ {
			b, h := bh/a.h, bh%a.h
			from, t := a.at(b)
			q, k, v := a.split(a.qkv.host, from, h)
			dq, dk, dv := a.split(a.dqkv.host, from, h)
			p, dc, ds := a.probs.host[bh*a.t*a.t:][:t*t], a.dcontext.host[from*d+h*hd:], a.ds[part*a.t*a.t:][:t*t]
			gemmOne(true, false, t, hd, t, 1, p, t, dc, d, 0, dv, 3*d)
			gemmOne(false, true, t, t, hd, 1, dc, d, v, 3*d, 0, ds, t)
			if s.window > 0 {
				s.bandBackward(ds, p, a.partial[part*ddistance.n+h*s.window:][:s.window], b, t)
			} else {
				textBackward(ds, p, s.lengths.host[b], t)
			}
			gemmOne(false, false, t, hd, t, scale, ds, t, k, 3*d, 0, dq, 3*d)
			gemmOne(true, false, t, hd, t, scale, ds, t, q, 3*d, 0, dk, 3*d)
		}
	})
	if ddistance.n > 0 {
		clear(ddistance.host)
		for p := range parts() {
			vec.Add(ddistance.host, a.partial[p*ddistance.n:][:ddistance.n])
		}
	}
}

// textProbabilities turns the scores of a text of n tokens, (t, t), into
// probabilities, in place.
func textProbabilities(scores []float32, n, t int) {
	for i := range n {
		row := scores[i*t : (i+1)*t]
		softmax(row[:n], 1)
		clear(row[n:])
	}
	clear(scores[n*t:])
}

// textBackward turns the gradient of the probabilities into that of the scores, in
// place.
func textBackward(ds, probs []float32, n, t int) {
	for i := range n {
		row := ds[i*t : (i+1)*t]
		softmaxBackward(row[:n], probs[i*t:i*t+n])
		clear(row[n:])
	}
	clear(ds[n*t:])
}

// band returns what event i of row b may see, as an interval of positions.
func (s sight) band(b, i, t int) (from, to int) {
	return max(s.starts.host[b*t+i], i-s.window+1), i + 1
}

// bandProbabilities turns the scores of head h in row b, (t, t), into probabilities,
// in place.
func (s sight) bandProbabilities(scores []float32, b, h, t int) {
	distance := s.distance.host[h*s.window : (h+1)*s.window]
	for i := range t {
		from, to := s.band(b, i, t)
		row := scores[i*t : (i+1)*t]
		band := row[from:to]
		for j := range band {
			band[j] += distance[i-from-j]
		}
		clear(row[:from])
		clear(row[to:])
		softmax(band, 1)
	}
}

// bandBackward turns the gradient of the probabilities into that of the scores, in
// place, and adds that of the head's distance bias to distance, (W).
func (s sight) bandBackward(ds, probs, distance []float32, b, t int) {
	for i := range t {
		from, to := s.band(b, i, t)
		row := ds[i*t : (i+1)*t]
		band := row[from:to]
		softmaxBackward(band, probs[i*t+from:i*t+to])
		for j, x := range band {
			distance[i-from-j] += x
		}
		clear(row[:from])
		clear(row[to:])
	}
}

// softmaxBackward turns the gradient of probabilities into that of their scores,
// in place.
func softmaxBackward(ds, probs []float32) {
	vec.SubMul(ds, probs, vec.Dot(ds, probs))
}
