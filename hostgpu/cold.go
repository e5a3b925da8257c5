package hostgpu

import (
	"fmt"
	"math"

	vec "gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"github.com/wisp-project/wisp/model"
)

// fitCold returns the user vector of an empty history, (D): the u that
// minimises the cross-entropy between the items' popularity p, smoothed by one
// event each, and softmax(V·u), with a little shrinkage:
//
//	log sum exp(V·u) - p·V·u + shrink/2·|u|²
//
// The problem is strictly convex and small; Newton's method with step halving
// solves it in a few iterations of N·D² operations.
func fitCold(items *model.Tensor, counts []float64) ([]float32, error) {
	const (
		shrink     = 1e-4
		tolerance  = 1e-9 // of half the squared Newton decrement, which bounds what is left to gain
		iterations = 100
	)
	n, d := items.Shape[0], items.Shape[1]
	v := mat.NewDense(n, d, nil)
	for i := range n {
		for j, x := range items.Row(i) {
			v.Set(i, j, float64(x))
		}
	}
	p := make([]float64, n)
	total := vec.Sum(counts)
	for i, c := range counts {
		p[i] = (c + 1) / (total + float64(n))
	}
	z := mat.NewVecDense(n, nil)
	logits := z.RawVector().Data
	value := func(u *mat.VecDense) float64 {
		z.MulVec(v, u)
		return vec.LogSumExp(logits) - vec.Dot(p, logits) + shrink/2*mat.Dot(u, u)
	}
	u, next := mat.NewVecDense(d, nil), mat.NewVecDense(d, nil)
	gradient, mean, step := mat.NewVecDense(d, nil), mat.NewVecDense(d, nil), mat.NewVecDense(d, nil)
	weighted, hessian := mat.NewDense(n, d, nil), mat.NewSymDense(d, nil)
	for range iterations {
		f := value(u)
		// With q = softmax(V·u): gradient Vᵀ(q-p) + shrink·u, Hessian
		// Vᵀ·diag(q)·V - (Vᵀq)(Vᵀq)ᵀ + shrink·I.
		norm := vec.LogSumExp(logits)
		for i, l := range logits {
			logits[i] = math.Exp(l - norm)
			vec.ScaleTo(weighted.RawRowView(i), math.Sqrt(logits[i]), v.RawRowView(i))
		}
		mean.MulVec(v.T(), z)
		hessian.SymOuterK(1, weighted.T())
		hessian.SymRankOne(hessian, -1, mean)
		for j := range d {
			hessian.SetSym(j, j, hessian.At(j, j)+shrink)
		}
		vec.Sub(logits, p)
		gradient.MulVec(v.T(), z)
		gradient.AddScaledVec(gradient, shrink, u)
		var chol mat.Cholesky
		if !chol.Factorize(hessian) {
			return nil, fmt.Errorf("%w: the cold-start vector cannot be fitted to these item vectors", ErrDiverged)
		}
		if err := chol.SolveVecTo(step, gradient); err != nil {
			return nil, fmt.Errorf("%w: cold-start vector: %w", ErrDiverged, err)
		}
		decrement := mat.Dot(gradient, step)
		if decrement/2 < tolerance {
			break
		}
		rate := 1.0
		for ; rate > 1e-10; rate /= 2 {
			next.AddScaledVec(u, -rate, step)
			if value(next) <= f-rate*decrement/4 {
				break
			}
		}
		u.CopyVec(next)
	}
	result := make([]float32, d)
	for i := range result {
		result[i] = float32(u.AtVec(i))
	}
	return result, nil
}
