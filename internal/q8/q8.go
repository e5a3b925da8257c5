// Package q8 is the one definition of wisp's int8 arithmetic: a plain-Go forward
// pass over a packed image, written to be read. The guest kernel gives the same
// bits on every engine; tests hold it to that.
//
// The rules that make this possible:
//
//   - Integers accumulate in int32, in any order; limits on the dimensions keep
//     every sum in range.
//   - Each float32 operation is rounded on its own: a product that feeds a sum
//     is written float32(x*y), which keeps the compiler from fusing the two.
//   - Float sums run in four lanes by index mod 4, added (l0+l1)+(l2+l3).
//   - Only + - * / sqrt, and exp and gelu as defined here, are used.
//   - Values are clamped before they become integers, and rounded to the nearest
//     integer, ties to even.
//   - No NaN and no infinity can arise: layout bounds every parameter.
package q8

import (
	"fmt"
	"math"
	"slices"

	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/tokenize"
)

// NormEpsilon is added to the variance in every layer normalisation.
const NormEpsilon = 1e-5

// Model answers requests from an image. It is safe for concurrent use.
type Model struct {
	p layout.Params
	m layout.Map

	tokenizer   *tokenize.Tokenizer // nil where there is no text encoder
	unavailable []uint32            // items that no ranking may hold
}

// New opens an image; its errors are those of layout.Open.
func New(image []byte) (*Model, error) {
	im, err := layout.Open(image)
	if err != nil {
		return nil, fmt.Errorf("q8: %w", err)
	}
	q := &Model{p: im.Params(), m: im.Map}
	if q.p.Text != nil {
		if q.tokenizer, err = tokenize.OpenPacked(q.p.Text.Tokenizer); err != nil {
			return nil, fmt.Errorf("q8: %w", err)
		}
	}
	return q, nil
}

// Shape returns the dimensions of the image.
func (q *Model) Shape() layout.Shape { return q.p.Shape }

// Map returns the memory map of a guest with this image, which bounds requests.
func (q *Model) Map() layout.Map { return q.m }

// Tap receives intermediate values in float32, named as in model.Tap. Values
// that exist only as integers are passed times their step.
type Tap func(site string, position int, x []float32)

// Run answers a request. A request that does not fit gets an answer with a
// status and no hits, as the guest gives it.
func (q *Model) Run(r layout.Request) layout.Answer {
	if status := q.check(r); status != layout.StatusOK {
		return layout.Answer{Status: status}
	}
	table, u := itemTable(&q.p), []int16(nil)
	var answer layout.Answer
	switch r.Kind {
	case layout.KindSimilar:
	case layout.KindEmbed:
		return q.embed(r)
	case layout.KindRate:
		return layout.Answer{Hits: q.rate(r)}
	case layout.KindClassify:
		return layout.Answer{Hits: q.classify(r.Text)}
	case layout.KindSearch:
		table, u = textTable(&q.p), q.query(r.Text)
	default:
		state := q.encode(q.history(r), noTap)
		u = q.userVector(&state, q.described(r.Text))
		if r.Flags&layout.FlagState != 0 {
			answer.State = state.Append(nil, q.p.Shape)
		}
	}
	if r.Kind == layout.KindScore {
		answer.Hits = q.explained(r, q.list(u, r.List))
		return answer
	}
	hit := func(item int) layout.Hit { return table.hit(u, item) }
	if r.Kind == layout.KindSimilar {
		hit = similarity(table, int(r.History[0].Item))
	}
	answer.Hits = q.explained(r, q.rank(r, table, hit))
	return answer
}

func (q *Model) check(r layout.Request) uint32 {
	ranks := r.Kind == layout.KindRecommend || r.Kind == layout.KindSearch || r.Kind == layout.KindSimilar
	var flags uint32
	switch r.Kind {
	case layout.KindRecommend:
		flags = layout.FlagExcludeHistory | layout.FlagState | layout.FlagAttributes
	case layout.KindScore:
		flags = layout.FlagState | layout.FlagAttributes
	case layout.KindEmbed:
		flags = layout.FlagItemRow
	case layout.KindSearch, layout.KindSimilar, layout.KindRate, layout.KindClassify:
	default:
		return layout.StatusRequest
	}
	explains, maxHistory := r.Kind == layout.KindRecommend || r.Kind == layout.KindScore, q.m.MaxHistory
	ofText := r.Kind == layout.KindEmbed || r.Kind == layout.KindClassify
	if r.Reasons > 0 {
		maxHistory++
	}
	switch {
	case r.Flags&^flags != 0,
		ranks && (r.K < 1 || int64(r.K) > int64(q.m.MaxK)), !ranks && r.K != 0,
		r.Reasons > layout.MaxReasons, r.Reasons == 0 && r.Flags&layout.FlagAttributes != 0,
		r.Reasons > 0 && (!explains || len(r.State) > 0 || r.Flags&layout.FlagState != 0),
		r.Reasons > 0 && (ranks && r.K > uint32(q.m.MaxExplained) || !ranks && len(r.List) > q.m.MaxExplained),
		len(r.History) > maxHistory, len(r.List) > q.m.MaxList,
		ofText && len(r.List) > 0, r.Kind == layout.KindRate && len(r.State) > 0,
		(ofText || r.Kind == layout.KindSearch) && len(r.History)+len(r.State) > 0,
		r.Kind == layout.KindSimilar && (len(r.History) != 1 || r.Text != "" || len(r.State) > 0),
		!ranks && len(r.Rules) > 0, ruleWords(r.Rules) > q.m.MaxRuleWords:
		return layout.StatusRequest
	}
	t := q.p.Shape.Text
	switch {
	case r.Flags&layout.FlagAttributes != 0 && q.p.Attributes == nil:
		return layout.StatusNoAttributes
	case r.Kind == layout.KindRate && q.p.Ratings == nil, r.Kind == layout.KindClassify && t.Classes == 0:
		return layout.StatusNoHead
	case r.Kind == layout.KindSearch && !t.ItemTexts, r.Kind == layout.KindEmbed && t.Dim == 0,
		r.Flags&layout.FlagItemRow != 0 && r.Kind == layout.KindEmbed && !t.ItemMap,
		r.Kind != layout.KindSearch && !ofText && r.Text != "" && !t.UserMap:
		return layout.StatusNoText
	case len(r.Text) > layout.MaxText:
		return layout.StatusLong
	}
	if len(r.State) > 0 && q.p.Shape.CheckState(r.State) != nil {
		return layout.StatusState
	}
	for _, e := range r.History {
		if int64(e.Item) >= int64(q.m.Items) {
			return layout.StatusItem
		}
		if int64(e.Type) >= int64(q.p.Shape.EventTypes) {
			return layout.StatusType
		}
	}
	for _, item := range r.List {
		if int64(item) >= int64(q.m.Items) {
			return layout.StatusItem
		}
	}
	if !q.checkRules(r) {
		return layout.StatusRule
	}
	return layout.StatusOK
}

// Scores writes the score of every item for user vector u, (D), to dst, (N).
func (q *Model) Scores(dst []float32, u []int16) {
	table := itemTable(&q.p)
	for i := range dst {
		dst[i] = table.hit(u, i).Score
	}
}

// Hits returns the score of every item for user vector u, (D), in the order of
// the item table.
func (q *Model) Hits(u []int16) []layout.Hit {
	table := itemTable(&q.p)
	hits := make([]layout.Hit, q.p.Shape.Items)
	for i := range hits {
		hits[i] = table.hit(u, i)
	}
	return hits
}

// itemTable and textTable are the tables that vectors are compared with: the
// items, and their texts.
func itemTable(p *layout.Params) table {
	return table{layout.Rows{W: p.ItemRows, Scale: p.ItemScale}}
}

func textTable(p *layout.Params) table { return table{p.Text.ItemTexts} }

type table struct{ layout.Rows }

// row returns that of an item.
func (t table) row(item int) []int8 {
	width := len(t.W) / len(t.Scale)
	return t.W[item*width : (item+1)*width]
}

func (t table) hit(u []int16, item int) layout.Hit {
	row := t.row(item)
	var acc int32
	for d, v := range row {
		acc += int32(u[d]) * int32(v)
	}
	return layout.Hit{Item: uint32(item), Acc: acc, Score: float32(float32(acc) * t.Scale[item])} // rounded: callers subtract it
}

// User returns the user vector, (D), in steps of 1/UserInv. The history holds
// at most Shape.Reach events with valid items and types. tap may be nil.
func (q *Model) User(events []layout.Event, tap Tap) []int16 {
	if tap == nil {
		tap = noTap
	}
	state := q.encode(history{events: events}, tap)
	u := q.userVector(&state, nil)
	if len(events) > 0 {
		tap("user.out", len(events)-1, scaled(u, q.p.UserInv))
	}
	return u
}

// DescribedUser returns the vector, as User does, of a user with a description;
// none where it is empty. The image must have a user map otherwise.
func (q *Model) DescribedUser(events []layout.Event, description string) []int16 {
	state := q.encode(history{events: events}, noTap)
	return q.userVector(&state, q.described(description))
}

func noTap(string, int, []float32) {}

// described returns what a description adds to the user vector, (D), nil where
// it is empty.
func (q *Model) described(description string) []float32 {
	if description == "" {
		return nil
	}
	return project(&q.p.Text.UserMap, q.TextVector(q.tokens(description)))
}

// userVector returns the user vector of a state with something, (D), added before
// it is rounded.
func (q *Model) userVector(s *layout.State, add []float32) []int16 {
	p, D := &q.p, q.p.Shape.Dim
	y := make([]float32, D) // in steps of 1/UserInv
	if s.Events == 0 {
		for d, v := range p.Cold {
			y[d] = float32(v)
		}
	} else {
		norm(y, s.Last, p.NormGain, p.NormBias, NormEpsilon)
		for d := range y {
			y[d] *= p.UserInv
		}
	}
	for d, v := range add {
		y[d] += float32(v * p.UserInv)
	}
	u := make([]int16, D)
	quant(u, y, 1, layout.UserMax)
	return u
}

// attend writes the attention of one head at one position to o: over n
// distances with keys and values at(d), a bias for each distance.
func attend(o []float32, query []int16, n int, at func(d int) (k, v []int16), scoreScale float32, bias []float32, vScale float32) {
	scores := make([]float32, n)
	for d := range n {
		k, _ := at(d)
		var acc int32
		for j, v := range query {
			acc += int32(v) * int32(k[j])
		}
		scores[d] = float32(float32(acc)*scoreScale) + bias[d]
	}
	weighted(o, scores, vScale, func(d int) []int16 { _, v := at(d); return v })
}

// weighted writes the mean of the values, in steps of vScale, to o; the weights
// are the softmax of the scores.
func weighted(o, scores []float32, vScale float32, value func(i int) []int16) {
	best := slices.Max(scores)
	var sum int32
	acc := make([]int32, len(o))
	for i, s := range scores {
		e := int32(math.RoundToEven(float64(float32(exp(s-best) * layout.ProbOne))))
		sum += e
		v := value(i)
		for j := range acc {
			acc[j] += e * int32(v[j])
		}
	}
	for j, a := range acc {
		o[j] = float32(float32(a)*vScale) / float32(sum)
	}
}

// linear computes y = float32(W·x)·scale + bias.
func linear(y []float32, l *layout.Linear, x []int16) {
	for r := range y {
		var acc int32
		for c, w := range l.W[r*l.Cols : (r+1)*l.Cols] {
			acc += int32(w) * int32(x[c])
		}
		y[r] = float32(float32(acc)*l.Scale[r]) + l.Bias[r]
	}
}

// norm is layer normalisation: y = ((x-mean)·r)·gain + bias with
// r = 1/sqrt(var+epsilon).
func norm(y, x, gain, bias []float32, epsilon float32) {
	n := float32(len(x))
	var l [4]float32
	for i, v := range x {
		l[i%4] += v
	}
	mean := ((l[0] + l[1]) + (l[2] + l[3])) / n
	l = [4]float32{}
	for i, v := range x {
		d := v - mean
		l[i%4] += float32(d * d)
	}
	variance := ((l[0] + l[1]) + (l[2] + l[3])) / n
	r := 1 / float32(math.Sqrt(float64(variance+epsilon)))
	for i, v := range x {
		y[i] = float32(float32((v-mean)*r)*gain[i]) + bias[i]
	}
}

// quant writes x·inv, clamped to ±limit and rounded, to dst.
func quant(dst []int16, x []float32, inv float32, limit float32) {
	for i, v := range x {
		dst[i] = int16(math.RoundToEven(float64(min(max(v*inv, -limit), limit))))
	}
}

// Constants of exp: the two parts of ln 2, the first exact in few bits, and a
// polynomial for e^r on |r| ≤ ln(2)/2 (Cody and Waite 1980; Taylor coefficients,
// whose error of 2e-7 is far below the step of 1/32767 that follows).
const (
	expFloor = -20 // e^-20 is far below half a step
	log2e    = 1.44269504
	ln2Hi    = 0.693359375
	ln2Lo    = -2.12194440e-4
)

// exp returns e^x for x ≤ 0; below expFloor it returns e^expFloor.
func exp(x float32) float32 {
	x = max(x, expFloor)
	n := float32(math.RoundToEven(float64(float32(x * log2e))))
	r := x - float32(n*ln2Hi)
	r -= float32(n * ln2Lo)
	p := float32(1.0 / 720)
	p = float32(p*r) + 1.0/120
	p = float32(p*r) + 1.0/24
	p = float32(p*r) + 1.0/6
	p = float32(p*r) + 0.5
	p = float32(p*r) + 1
	p = float32(p*r) + 1
	return math.Float32frombits(math.Float32bits(p) + uint32(int32(n))<<23)
}

// scaled returns integers as the values they stand for.
func scaled(x []int16, inv float32) []float32 {
	y := make([]float32, len(x))
	for i, v := range x {
		y[i] = float32(v) / inv
	}
	return y
}
