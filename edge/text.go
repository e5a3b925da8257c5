package edge

import (
	"context"
	"fmt"

	"github.com/wisp-project/wisp/internal/layout"
)

// MaxText is the number of bytes of a text that are looked at. A longer one is
// cut before the first character that does not fit; the text encoder takes far
// less of most texts than that.
const MaxText = layout.MaxText

// SearchRequest asks for the items whose texts are nearest in meaning to a text.
type SearchRequest struct {
	// Text is what is searched for; bytes that are not UTF-8 count as U+FFFD.
	Text string `json:"text"`
	// K is the number of items wanted; 0 means 10. At most Limits.MaxK.
	K int `json:"k,omitempty"`
	// Exclude names items to leave out; unknown ones are ignored.
	Exclude []string `json:"exclude,omitempty"`
	// Rules say what may be found, and in which order.
	Rules Rules `json:"rules,omitzero"`
}

// Search returns the items whose texts are nearest to a text; their scores are
// the cosines between the vectors of the texts. Its errors wrap ErrRequest,
// ErrNoText, ErrSandbox, ErrClosed or the context's error.
func (r *Runtime) Search(ctx context.Context, q SearchRequest) (Response, error) {
	v := r.view()
	k, err := v.hits(q.K)
	if err != nil {
		return Response{}, err
	}
	if !r.image.Shape.Text.ItemTexts {
		return Response{}, fmt.Errorf("%w: it does not hold the texts of its items, so that they cannot be searched", ErrNoText)
	}
	request := layout.Request{Kind: layout.KindSearch, K: k, Text: layout.CutText(q.Text)}
	return r.ranked(ctx, v, &request, q.K, q.Exclude, q.Rules)
}

// ranked returns the items that answer a request without a history of a user: those
// that exclude names are left out, and rules apply; asked is the number wanted, as the
// caller wrote it.
func (r *Runtime) ranked(ctx context.Context, v view, request *layout.Request, asked int, exclude []string, rules Rules) (response Response, err error) {
	if err := v.leaveOut(request, exclude); err != nil {
		return Response{}, err
	}
	if request.Rules, err = v.rules(rules, request.K, asked); err != nil {
		return Response{}, err
	}
	err = r.with(ctx, func(ctx context.Context, s *sandbox) error {
		answer, err := s.do(ctx, v, request)
		response.Items = v.recommendations(answer.Hits)
		return err
	})
	if err != nil {
		return Response{}, err
	}
	return response, nil
}

// Embedding is the vector of a text.
type Embedding struct {
	// Vector is the text encoder's, of length 1 where the encoder says so.
	Vector []float32 `json:"vector"`
	// Row times Scale is the item vector of an item with this text and no
	// history, over the step of the user vector; empty where the artefact does
	// not lead from texts to items.
	Row   []int8  `json:"row,omitempty"`
	Scale float32 `json:"scale,omitempty"`
}

// Embed returns the vector of a text. Its errors wrap ErrNoText, ErrSandbox,
// ErrClosed or the context's error.
func (r *Runtime) Embed(ctx context.Context, text string) (Embedding, error) {
	v, t := r.view(), r.image.Shape.Text
	if t.Dim == 0 {
		return Embedding{}, fmt.Errorf("%w: it has no text encoder", ErrNoText)
	}
	request := layout.Request{Kind: layout.KindEmbed, Text: layout.CutText(text)}
	if t.ItemMap {
		request.Flags = layout.FlagItemRow
	}
	var e Embedding
	err := r.with(ctx, func(ctx context.Context, s *sandbox) error {
		answer, err := s.do(ctx, v, &request)
		e = Embedding{Vector: answer.Vector, Row: answer.Row, Scale: answer.Scale}
		return err
	})
	if err != nil {
		return Embedding{}, err
	}
	return e, nil
}
