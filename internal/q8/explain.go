package q8

import (
	"math"
	"slices"

	"github.com/wisp-project/wisp/internal/layout"
)

// explained returns the hits of an answer and behind them, where the request asks
// for reasons, those for each: the events of the history without which its score
// would be lower. Every figure is exact, the score of the item for the history
// without the event taken from its score; which events are tried is decided by an
// estimate:
//
//   - Candidates are the events that the last one attends to, W at most.
//   - The estimate of a candidate is made by masking: the last event goes through
//     the blocks again without looking at it, all keys and values being what they
//     were. It is the sum of what the scores of the items lose. The last event
//     itself comes before all others.
//   - Candidates are tried in the order of their estimates, equal ones the later
//     first, until the events that would have to run again are more than
//     layout.ExplainRows allows; one that costs more than what is left is passed over.
//
// Reasons come by falling loss, equal ones the earlier event first; see
// layout.Request.Parts.
func (q *Model) explained(r layout.Request, hits []layout.Hit) []layout.Hit {
	if r.Reasons == 0 {
		return hits
	}
	events, T, table := r.History, len(r.History), itemTable(&q.p)
	description, reach := q.described(r.Text), q.p.Shape.Reach()
	items := make([]uint32, len(hits))
	for j := range hits {
		items[j] = hits[j].Item
	}
	score := func(h []layout.Event) []layout.Hit {
		state := q.encode(history{events: h[max(0, len(h)-reach):]}, noTap)
		return q.list(q.userVector(&state, description), items)
	}
	whole := score(events)
	estimate := func(last []float32) float32 {
		u := q.userVector(&layout.State{Events: 1, Last: last}, description)
		var lanes [4]float32
		for j, item := range items {
			if loss := whole[j].Score - table.hit(u, int(item)).Score; loss > 0 {
				lanes[j%4] += loss
			}
		}
		return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])
	}
	reasons := make([][]layout.Hit, len(items))
	for _, i := range q.candidates(events, estimate) {
		for j, hit := range score(layout.Without(events, i, T > reach)) {
			if loss := whole[j].Score - hit.Score; loss > 0 {
				reasons[j] = append(reasons[j], layout.Hit{Item: uint32(i), Acc: hit.Acc, Score: loss})
			}
		}
	}
	for _, of := range reasons {
		hits = append(hits, strongest(of, int(r.Reasons))...)
	}
	if r.Flags&layout.FlagAttributes != 0 {
		state := q.encode(history{events: events}, noTap)
		u := q.userVector(&state, description)
		for j, item := range items {
			hits = append(hits, strongest(q.parts(u, int(item), whole[j].Score), int(r.Reasons))...)
		}
	}
	return hits
}

// parts returns what the attributes of an item bring to its score for user vector u,
// as far as it is above zero: the product with each attribute's row, times how often
// the item has it, times the item's factor. What is left of the score when all of
// them are taken away is the item's own part.
func (q *Model) parts(u []int16, item int, score float32) []layout.Hit {
	a, t := q.p.Attributes, table{q.p.Attributes.Rows}
	var parts []layout.Hit
	var lanes [4]float32
	var of []layout.AttributeCount
	if item < len(a.Of) { // of an inserted item nothing is known but its text
		of = a.Of[item]
	}
	for j, e := range of {
		hit := t.hit(u, int(e.Attribute))
		hit.Score = float32(hit.Score * float32(float32(e.Count)*a.Factor[item]))
		lanes[j%4] += hit.Score
		parts = append(parts, hit)
	}
	own := score - ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]))
	parts = append(parts, layout.Hit{Item: layout.OwnPart, Score: own})
	return slices.DeleteFunc(parts, func(h layout.Hit) bool { return !(h.Score > 0) })
}

// strongest returns the k hits of the largest scores, equal ones by rising item,
// filled up with layout.NoReason.
func strongest(hits []layout.Hit, k int) []layout.Hit {
	slices.SortFunc(hits, func(a, b layout.Hit) int {
		switch {
		case a.Score > b.Score, a.Score == b.Score && a.Item < b.Item:
			return -1
		}
		return 1
	})
	hits = hits[:min(k, len(hits))]
	for len(hits) < k {
		hits = append(hits, layout.Hit{Item: layout.NoReason})
	}
	return hits
}

// candidates returns the events that are tried. estimate says what a residual
// stream of the last event behind the blocks loses.
func (q *Model) candidates(events []layout.Event, estimate func(last []float32) float32) []int {
	T, W := len(events), q.p.Shape.Window
	if T == 0 {
		return nil
	}
	before := q.encode(history{events: events[:T-1]}, noTap)
	type candidate struct {
		event    int
		estimate float32
	}
	order := []candidate{{T - 1, float32(math.Inf(1))}}
	for i := T - 2; i >= max(0, T-W); i-- {
		order = append(order, candidate{i, estimate(q.masked(events[T-1], &before, T-1-i))})
	}
	slices.SortStableFunc(order, func(a, b candidate) int {
		switch {
		case a.estimate > b.estimate:
			return -1
		case a.estimate < b.estimate:
			return 1
		}
		return 0
	})
	var chosen []int
	left := layout.ExplainRows(T)
	for _, c := range order {
		if cost := layout.ExplainCost(T, c.event); cost <= left {
			left -= cost
			chosen = append(chosen, c.event)
		}
	}
	return chosen
}

// masked returns the residual stream, (D), of an event behind the blocks when it
// does not look at the one that lies the given distance before it.
func (q *Model) masked(e layout.Event, before *layout.State, distance int) []float32 {
	s := q.p.Shape
	x, o, headDim := q.input(e), make([]float32, s.Dim), s.Dim/s.Heads
	for l := range q.p.Blocks {
		b := &q.p.Blocks[l]
		query, key, value := q.project(b, x, true, func(string, []float32) {})
		n := min(len(before.Keys[l])+1, s.Window)
		keys, values := [][]int16{key}, [][]int16{value}
		for d := 1; d < n; d++ {
			at := len(before.Keys[l]) - d
			keys, values = append(keys, widen(before.Keys[l][at])), append(values, widen(before.Values[l][at]))
		}
		for a := range s.Heads {
			lo, hi := a*headDim, (a+1)*headDim
			bias := slices.Clone(b.DistanceBias[a*s.Window:][:n])
			at := func(d int) int {
				if d >= distance {
					d++
				}
				return d
			}
			attend(o[lo:hi], query[lo:hi], n-1, func(d int) (k, v []int16) { return keys[at(d)][lo:hi], values[at(d)][lo:hi] },
				b.ScoreScale, slices.Delete(bias, distance, distance+1), b.VScale)
		}
		q.finish(b, x, o, func(string, []float32) {})
	}
	return x
}

// list returns the hits of the given items for user vector u.
func (q *Model) list(u []int16, items []uint32) []layout.Hit {
	table, hits := itemTable(&q.p), make([]layout.Hit, len(items))
	for i, item := range items {
		hits[i] = table.hit(u, int(item))
	}
	return hits
}
