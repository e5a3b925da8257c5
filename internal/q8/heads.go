package q8

import (
	"math"
	"slices"

	"github.com/wisp-project/wisp/internal/layout"
)

// rate answers a request for ratings: see layout.Ratings. What the history says of the
// user's b_user is summed in integers.
func (q *Model) rate(r layout.Request) []layout.Hit {
	h, s := q.p.Ratings, q.p.Shape
	state := q.encode(history{events: r.History}, noTap)
	y, u := make([]float32, s.Dim), make([]int16, s.Dim)
	linear(y, &h.Map, q.userVector(&state, q.described(r.Text)))
	step := quantRow(u, y, layout.UserMax)
	item := func(i uint32) int32 { // b_item
		if int(i) < len(h.Items) {
			return int32(h.Items[i])
		}
		return 0
	}
	var sum, n int32
	for _, e := range r.History {
		if level := h.Levels[e.Type]; level != layout.NoLevel {
			sum += int32(level) - item(e.Item)
			n++
		}
	}
	var user float32 // b_user
	if n > 0 {
		user = float32(sum) / (float32(n) + h.Shrink)
	}
	hits := q.list(u, r.List)
	for i := range hits {
		hit := &hits[i]
		rating := (h.Mean + float32(h.Step*(user+float32(item(hit.Item))))) + float32(hit.Score*step)
		hit.Score = min(max(rating, h.Low), h.High)
	}
	return hits
}

// classify answers a request for the classes of a text: the softmax of the logits, in
// integers as that of attention.
func (q *Model) classify(text string) []layout.Hit {
	logits := project(&q.p.Text.ClassMap, q.TextVector(q.tokens(text)))
	best := slices.Max(logits)
	hits := make([]layout.Hit, len(logits))
	var sum int32
	for i, z := range logits {
		e := int32(math.RoundToEven(float64(float32(exp(z-best) * layout.ProbOne))))
		hits[i] = layout.Hit{Item: uint32(i), Acc: e}
		sum += e
	}
	for i := range hits {
		hits[i].Score = float32(hits[i].Acc) / float32(sum)
	}
	return hits
}
