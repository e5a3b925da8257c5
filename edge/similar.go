package edge

import (
	"context"
	"fmt"

	"github.com/wisp-project/wisp/internal/layout"
)

// SimilarRequest asks for the items that are most like one.
type SimilarRequest struct {
	Item string `json:"item"` // id
	// K is the number of items wanted; 0 means 10. At most Limits.MaxK.
	K int `json:"k,omitempty"`
	// Exclude names items to leave out; unknown ones are ignored.
	Exclude []string `json:"exclude,omitempty"`
	// Rules say what may be found, and in which order.
	Rules Rules `json:"rules,omitzero"`
}

// Similar returns the items whose rows point in the direction of an item's row; the
// scores are the cosines between them. A row holds what the model learnt of an item
// from events and texts, and its length how sought after it is: the cosine leaves that
// out, or every item would be most like the best-selling ones. The item itself is not
// among them. An unknown item is an error that wraps ErrRequest; other errors are
// those of Recommend.
func (r *Runtime) Similar(ctx context.Context, q SimilarRequest) (Response, error) {
	v := r.view()
	k, err := v.hits(q.K)
	if err != nil {
		return Response{}, err
	}
	item, ok := v.find(q.Item)
	if !ok {
		return Response{}, fmt.Errorf("%w: item %q is not in the catalogue", ErrRequest, q.Item)
	}
	request := layout.Request{Kind: layout.KindSimilar, K: k, History: []layout.Event{{Item: item}}}
	return r.ranked(ctx, v, &request, q.K, q.Exclude, q.Rules)
}
