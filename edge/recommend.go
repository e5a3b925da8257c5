package edge

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/wisp-project/wisp/internal/layout"
)

// Event is one past event of a user.
type Event struct {
	Item  string  `json:"item"`            // id
	Type  string  `json:"type,omitempty"`  // a name of the manifest's vocabulary; empty means DefaultType
	Value float32 `json:"value,omitempty"` // the rating, in the data set's own scale; 0 for other types
	Time  int64   `json:"time,omitempty"`  // Unix time in seconds
}

// DefaultType is the type of an event that does not say.
const DefaultType = "click"

// Request asks for the best items for a history.
type Request struct {
	// History holds the user's events in order of time; where times fall, they
	// are put in order first. Events of unknown items are skipped and named in the
	// response. Only the last Manifest().Limits.MaxHistory events are looked at,
	// but the items of all of them are left out of the answer.
	History []Event `json:"history"`
	// Description says what the user is like, in words; it counts beside the
	// history, and alone where that is empty. Empty means none. See MaxText.
	Description string `json:"description,omitempty"`
	// K is the number of items wanted; 0 means 10. At most Limits.MaxK.
	K int `json:"k,omitempty"`
	// Exclude names items to leave out; unknown ones are ignored.
	Exclude []string `json:"exclude,omitempty"`
	// IncludeSeen keeps the items of the history in.
	IncludeSeen bool `json:"include_seen,omitempty"`
	// Rules say what may be recommended, and in which order.
	Rules Rules `json:"rules,omitzero"`
	// Explain adds to each item the past events that speak most for it. The request
	// then takes some three times as long.
	Explain bool `json:"explain,omitempty"`
	// Reasons is the number of events for each item, at most MaxReasons; 0 means 3.
	Reasons int `json:"reasons,omitempty"`
	// Session is what the response to an earlier request of this user handed out;
	// History then holds the events since. It costs one step for each of them, and
	// the answer is that to the whole history, bit for bit. A session of another
	// artefact is refused with ErrSession: start anew with the whole history. Whoever
	// changes one gets wrong answers, and does no other harm.
	Session []byte `json:"session,omitempty"`
	// KeepSession hands out a session with the response; Session implies it.
	KeepSession bool `json:"keep_session,omitempty"`
}

// Recommendation is one recommended item.
type Recommendation struct {
	Item  string  `json:"item"`
	Title string  `json:"title,omitempty"`
	Score float32 `json:"score"`
	// Reasons are the past events that speak most for the item, by falling Drop.
	// There are fewer than asked for where no others were found to do so.
	Reasons []Reason `json:"reasons,omitempty"`
	// Attributes are what of the item itself speaks most for it, by falling Gain, as
	// many as Reasons may be.
	Attributes []Attribute `json:"attributes,omitempty"`
}

// Attribute is a part of an item's vector that raises its score: without it, the
// score would be lower by Gain.
type Attribute struct {
	// Name is what kind of attribute it is and which, for example "category Comedy"
	// or "word dog".
	Name string `json:"name,omitempty"`
	// Own says that it is no attribute, but what only this item is, as learnt from
	// those who chose it.
	Own  bool    `json:"own,omitempty"`
	Gain float32 `json:"gain"`
}

// Reason is a past event whose removal lowers an item's score.
type Reason struct {
	Event int     `json:"event"` // index into the request's history
	Item  string  `json:"item"`
	Title string  `json:"title,omitempty"`
	Drop  float32 `json:"drop"` // by how much the score falls without the event
}

// Response is the answer to a Request.
type Response struct {
	// Items are the recommendations by falling score, ties in the order of the
	// catalogue, where no rule says otherwise. There are fewer than K only where the
	// catalogue has no more that the request lets in.
	Items []Recommendation `json:"items"`
	// Unknown are the ids of the history that the catalogue does not have.
	Unknown []string `json:"unknown,omitempty"`
	// ColdStart says that no event of the history was known, and the answer is
	// the one for a new user, of whom no more than the description is known.
	ColdStart bool `json:"cold_start,omitempty"`
	// NoAttributes says that attributes were asked for, by Explain, of an artefact
	// that does not know those of its items.
	NoAttributes bool `json:"no_attributes,omitempty"`
	// Session is what to send with the next events of this user, where the request
	// asked for it.
	Session []byte `json:"session,omitempty"`
}

// history is a checked history.
type history struct {
	events  []layout.Event // in order of time, all known
	index   []int          // of each event in the request
	times   []int64
	unknown []string
}

// Recommend returns the best items for a history. Its errors wrap ErrRequest for
// a request that makes no sense, ErrNoText for a description that the artefact
// cannot read, ErrOverloaded, ErrSandbox for a guest that failed, ErrSystem,
// ErrClosed, or the context's error.
func (r *Runtime) Recommend(ctx context.Context, q Request) (Response, error) {
	if len(q.Session) > 0 || q.KeepSession {
		return r.resumed(ctx, q)
	}
	v := r.view()
	k, err := v.checked(&q)
	if err != nil {
		return Response{}, err
	}
	h, err := v.history(q.History)
	if err != nil {
		return Response{}, err
	}
	request := layout.Request{Kind: layout.KindRecommend, K: k, Text: layout.CutText(q.Description)}
	events := r.image.Map.MaxHistory
	if int(k) <= r.image.Map.MaxExplained { // with the reasons in the same answer
		if request.Reasons, events = r.reasons(&q); request.Reasons > 0 {
			request.Flags = r.attributesFlag()
		}
	}
	request.History = h.last(events)
	if err := v.exclude(&request, q, h); err != nil {
		return Response{}, err
	}
	if request.Rules, err = v.rules(q.Rules, k, q.K); err != nil {
		return Response{}, err
	}
	response := Response{Unknown: h.unknown, ColdStart: len(h.events) == 0, NoAttributes: q.Explain && len(r.attributes) == 0}
	err = r.with(ctx, func(ctx context.Context, s *sandbox) error {
		answer, err := s.do(ctx, v, &request)
		if err != nil {
			return err
		}
		hits, reasons, attributes := request.Parts(answer.Hits)
		response.Items = v.recommendations(hits)
		if request.Reasons == 0 {
			return v.explain(ctx, s, q, h, slices.Clone(hits), response.Items)
		}
		v.because(response.Items, reasons, attributes, h, len(request.History))
		return nil
	})
	if err != nil {
		return Response{}, err
	}
	return response, nil
}

// checked checks what of q needs no look at its events, and returns the number of
// hits.
func (r view) checked(q *Request) (uint32, error) {
	if q.Reasons < 0 || q.Reasons > MaxReasons {
		return 0, fmt.Errorf("%w: %d reasons are asked for, must lie between 1 and %d", ErrRequest, q.Reasons, MaxReasons)
	}
	if err := r.describes(q.Description); err != nil {
		return 0, err
	}
	return r.hits(q.K)
}

// hits checks a number of hits that is asked for; 0 means 10. A small catalogue
// cannot give more than it has, and that is no mistake.
func (r *Runtime) hits(k int) (uint32, error) {
	if k < 0 {
		return 0, fmt.Errorf("%w: k is %d, must lie between 1 and %d", ErrRequest, k, r.image.Map.MaxK)
	}
	return uint32(min(cmp.Or(k, 10), r.image.Map.MaxK)), nil
}

// recommendations names the items of hits.
func (r view) recommendations(hits []layout.Hit) []Recommendation {
	items := make([]Recommendation, len(hits))
	for i, hit := range hits {
		item := r.item(hit.Item)
		items[i] = Recommendation{Item: item.ID, Title: item.Title, Score: hit.Score}
	}
	return items
}

// describes reports a description that the artefact cannot read.
func (r *Runtime) describes(description string) error {
	if description != "" && !r.image.Shape.Text.UserMap {
		return fmt.Errorf("%w: it does not know descriptions of users; ask without one", ErrNoText)
	}
	return nil
}

// ScoreRequest asks what the model thinks of some items.
type ScoreRequest struct {
	History     []Event  `json:"history"`               // as in Request
	Description string   `json:"description,omitempty"` // as in Request
	Items       []string `json:"items"`                 // ids
}

// Score is what the model thinks of one item.
type Score struct {
	Value   float32 // comparable between items
	Integer int32   // the exact product of user vector and item row, before the item's scale
}

// Score returns the scores of the named items, in their order. An unknown item is
// an error that wraps ErrRequest; other errors are those of Recommend.
func (r *Runtime) Score(ctx context.Context, q ScoreRequest) ([]Score, error) {
	v := r.view()
	list, err := v.scored(q)
	if err != nil {
		return nil, err
	}
	h, err := v.history(q.History)
	if err != nil {
		return nil, err
	}
	var scores []Score
	err = r.with(ctx, func(ctx context.Context, s *sandbox) (err error) {
		// The history is encoded once; what comes of it goes on from there.
		events, state := h.last(r.image.Map.MaxHistory), []byte(nil)
		scores, err = v.score(list, func(q2 *layout.Request) (layout.Answer, error) {
			q2.History, q2.State, q2.Text = events, state, layout.CutText(q.Description)
			if len(list) > r.image.Map.MaxList {
				q2.Flags = layout.FlagState
			}
			answer, err := s.do(ctx, v, q2)
			events, state = nil, append(state[:0], answer.State...)
			return answer, err
		})
		return err
	})
	return scores, err
}

// scored checks a request for scores and returns its items.
func (r view) scored(q ScoreRequest) ([]uint32, error) {
	if err := r.describes(q.Description); err != nil {
		return nil, err
	}
	list := make([]uint32, len(q.Items))
	for i, id := range q.Items {
		n, ok := r.find(id)
		if !ok {
			return nil, fmt.Errorf("%w: item %q is not in the catalogue", ErrRequest, id)
		}
		list[i] = n
	}
	return list, nil
}

// score asks for the scores of a list.
func (r view) score(list []uint32, do func(*layout.Request) (layout.Answer, error)) ([]Score, error) {
	hits, err := r.listed(layout.KindScore, list, do)
	if err != nil {
		return nil, err
	}
	scores := make([]Score, len(hits))
	for i, hit := range hits {
		scores[i] = Score{Value: hit.Score, Integer: hit.Acc}
	}
	return scores, nil
}

// listed asks something of each item of a list, in as many requests as it takes.
func (r view) listed(kind uint32, list []uint32, do func(*layout.Request) (layout.Answer, error)) ([]layout.Hit, error) {
	hits := make([]layout.Hit, 0, len(list))
	for part := range slices.Chunk(list, r.image.Map.MaxList) {
		answer, err := do(&layout.Request{Kind: kind, List: part})
		if err != nil {
			return nil, err
		}
		hits = append(hits, answer.Hits...)
	}
	return hits, nil
}

// history checks events and brings them into the form of requests.
func (r view) history(events []Event) (history, error) {
	h := history{events: make([]layout.Event, 0, len(events)), index: make([]int, 0, len(events)), times: make([]int64, 0, len(events))}
	for i := range events {
		e := &events[i]
		if e.Time < 0 {
			return h, fmt.Errorf("%w: event %d (item %q) has time %d; times are Unix seconds, 0 or later", ErrRequest, i, e.Item, e.Time)
		}
		if v := float64(e.Value); math.IsNaN(v) || math.IsInf(v, 0) {
			return h, fmt.Errorf("%w: event %d (item %q) has value %v", ErrRequest, i, e.Item, e.Value)
		}
		kind, err := r.eventType(e.Type, e.Value)
		if err != nil {
			return h, fmt.Errorf("%w: event %d (item %q): %w", ErrRequest, i, e.Item, err)
		}
		item, ok := r.find(e.Item)
		if !ok {
			h.unknown = append(h.unknown, e.Item)
			continue
		}
		h.events = append(h.events, layout.Event{Item: item, Type: kind})
		h.index = append(h.index, i)
		h.times = append(h.times, e.Time)
	}
	if !slices.IsSorted(h.times) {
		order := make([]int, len(h.times))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(h.times[a], h.times[b]) })
		sorted := history{unknown: h.unknown}
		for _, i := range order {
			sorted.events = append(sorted.events, h.events[i])
			sorted.index = append(sorted.index, h.index[i])
			sorted.times = append(sorted.times, h.times[i])
		}
		h = sorted
	}
	for i := 1; i < len(h.events); i++ {
		h.events[i].Gap = gap(h.times[i] - h.times[i-1])
	}
	return h, nil
}

func gap(seconds int64) uint32 { return uint32(min(seconds, math.MaxUint32)) }

// last returns the last n events, as the guest reads them.
func (h *history) last(n int) []layout.Event { return h.events[max(0, len(h.events)-n):] }

// eventType returns the index in the vocabulary of an event: the last entry of
// its name whose bound does not exceed the value, or the first of its name.
func (r *Runtime) eventType(name string, value float32) (uint32, error) {
	if name == "" {
		name = DefaultType
	}
	found := -1
	for i, t := range r.manifest.EventTypes {
		if t.Name == name && (found < 0 || t.AtLeast <= value) {
			found = i
		}
	}
	if found < 0 {
		var known []string
		for _, t := range r.manifest.EventTypes {
			if !slices.Contains(known, t.Name) {
				known = append(known, t.Name)
			}
		}
		return 0, fmt.Errorf("type %q is unknown; the model knows %q", name, known)
	}
	return uint32(found), nil
}

// exclude fills the request's list. The guest leaves out the history it sees;
// what was cut off before it goes into the list.
func (r view) exclude(request *layout.Request, q Request, h history) error {
	if !q.IncludeSeen {
		request.Flags |= layout.FlagExcludeHistory
		for _, e := range h.events[:len(h.events)-len(request.History)] {
			request.List = append(request.List, e.Item)
		}
	}
	return r.leaveOut(request, q.Exclude)
}

// leaveOut adds items to the request's list; unknown ones are ignored.
func (r view) leaveOut(request *layout.Request, ids []string) error {
	for _, id := range ids {
		if n, ok := r.find(id); ok {
			request.List = append(request.List, n)
		}
	}
	if len(request.List) > r.image.Map.MaxList {
		slices.Sort(request.List)
		request.List = slices.Compact(request.List)
	}
	if len(request.List) > r.image.Map.MaxList {
		return fmt.Errorf("%w: %d items are to be left out, at most %d are possible; shorten history or exclude",
			ErrRequest, len(request.List), r.image.Map.MaxList)
	}
	return nil
}
