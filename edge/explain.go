package edge

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/wisp-project/wisp/internal/layout"
)

// MaxReasons is the largest number of reasons for an item.
const MaxReasons = layout.MaxReasons

// reasons returns how many reasons q asks for, and how many events of a history
// they take: without one of the last the score depends on one more before them.
func (r *Runtime) reasons(q *Request) (reasons uint32, events int) {
	if !q.Explain {
		return 0, r.image.Map.MaxHistory
	}
	return uint32(cmp.Or(q.Reasons, 3)), r.image.Map.MaxHistory + 1
}

// explain adds the reasons to recommended items: for each the past events whose
// removal lowers its score most. Each figure is exact: the score of the item less
// that for the history without the event. Which events are tried is estimated in the
// sandbox, so that it costs no run for each; short histories are tried whole.
func (r view) explain(ctx context.Context, s *sandbox, q Request, h history, hits []layout.Hit, items []Recommendation) error {
	n, events := r.reasons(&q)
	if n == 0 {
		return nil
	}
	list := make([]uint32, len(items))
	for i, hit := range hits {
		list[i] = hit.Item
	}
	for part := range slices.Chunk(list, r.image.Map.MaxExplained) {
		request := layout.Request{Kind: layout.KindScore, List: part, Reasons: n, Flags: r.attributesFlag(), Text: layout.CutText(q.Description), History: h.last(events)}
		answer, err := s.do(ctx, r, &request)
		if err != nil {
			return err
		}
		_, reasons, attributes := request.Parts(answer.Hits)
		r.because(items[:len(part)], reasons, attributes, h, len(request.History))
		items = items[len(part):]
	}
	return nil
}

// attributesFlag asks for attributes where the artefact knows them.
func (r *Runtime) attributesFlag() uint32 {
	if r.image.Shape.Attributes.Count == 0 {
		return 0
	}
	return layout.FlagAttributes
}

// because writes the reasons and attributes for items to them. The events are counted
// among the last n of h.
func (r view) because(items []Recommendation, reasons, attributes []layout.Hit, h history, n int) {
	first := len(h.events) - n
	for i := range items {
		for _, hit := range attributes[i*len(attributes)/len(items):][:len(attributes)/len(items)] {
			switch hit.Item {
			case layout.NoReason:
			case layout.OwnPart:
				items[i].Attributes = append(items[i].Attributes, Attribute{Own: true, Gain: hit.Score})
			default:
				items[i].Attributes = append(items[i].Attributes, Attribute{Name: r.attributes[hit.Item], Gain: hit.Score})
			}
		}
	}
	for i := range items {
		group := reasons[i*len(reasons)/len(items):][:len(reasons)/len(items)]
		for _, hit := range group {
			if hit.Item == layout.NoReason {
				break
			}
			e := first + int(hit.Item)
			event := r.item(h.events[e].Item)
			items[i].Reasons = append(items[i].Reasons, Reason{Event: h.index[e], Item: event.ID, Title: event.Title, Drop: hit.Score})
		}
	}
}

// believableReasons is believable for the reasons and attributes of an answer.
func believableReasons(reasons, attributes []layout.Hit, r *layout.Request, s layout.Shape) error {
	for i, hit := range attributes {
		if !finite(hit.Score) || hit.Item < layout.OwnPart && int64(hit.Item) >= int64(s.Attributes.Count) {
			return fmt.Errorf("part %d is attribute %d of %d, with %v", i, hit.Item, s.Attributes.Count, hit.Score)
		}
	}
	for i, hit := range reasons {
		if !finite(hit.Score) || hit.Item != layout.NoReason && int64(hit.Item) >= int64(len(r.History)) {
			return fmt.Errorf("reason %d is event %d of %d, with %v", i, hit.Item, len(r.History), hit.Score)
		}
	}
	return nil
}
