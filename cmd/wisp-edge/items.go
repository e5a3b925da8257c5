package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
)

// scored is the answer to a request for scores.
type scored struct {
	Scores []itemScore `json:"scores"`
}

type itemScore struct {
	Item  string  `json:"item"`
	Score float32 `json:"score"`
}

// score answers a request for scores, in the order of its items.
func score(r *edge.Runtime, ctx context.Context, q edge.ScoreRequest) (scored, error) { //nolint:revive // the receiver of a method expression comes first
	scores, err := r.Score(ctx, q)
	s := scored{Scores: []itemScore{}}
	for i, v := range scores {
		s.Scores = append(s.Scores, itemScore{q.Items[i], v.Value})
	}
	return s, err
}

// itemRoutes adds what operators may do with single items of a model.
func (a admin) itemRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /models/{model}/items", a.items)
	mux.HandleFunc("/models/{model}/items", wrongMethod("GET, HEAD"))
	for path, change := range map[string]struct {
		put, remove func(w http.ResponseWriter, r *http.Request, m *edge.Model, item string) error
	}{
		"/models/{model}/items/{item}": {
			put: func(w http.ResponseWriter, r *http.Request, m *edge.Model, item string) error {
				var q edge.NewItem
				if err := decode(http.MaxBytesReader(w, r.Body, maxBody), &q); err != nil {
					return fmt.Errorf("%w: %w", edge.ErrRequest, err)
				}
				if q.ID != "" && q.ID != item {
					return fmt.Errorf("%w: the path names item %q, the body %q", edge.ErrRequest, item, q.ID)
				}
				q.ID = item
				return m.Insert(r.Context(), q)
			},
			remove: func(_ http.ResponseWriter, _ *http.Request, m *edge.Model, item string) error { return m.Remove(item) },
		},
		"/models/{model}/unavailable/{item}": {
			put: func(_ http.ResponseWriter, _ *http.Request, m *edge.Model, item string) error {
				return m.SetAvailable(false, item)
			},
			remove: func(_ http.ResponseWriter, _ *http.Request, m *edge.Model, item string) error {
				return m.SetAvailable(true, item)
			},
		},
	} {
		mux.HandleFunc("PUT "+path, a.changeItem(change.put))
		mux.HandleFunc("DELETE "+path, a.changeItem(change.remove))
		mux.HandleFunc(path, wrongMethod("PUT, DELETE"))
	}
}

// items lists those inserted.
func (a admin) items(w http.ResponseWriter, r *http.Request) {
	model, err := a.find(r.PathValue("model"))
	if err != nil {
		a.refuse(w, err)
		return
	}
	items := []artifact.Item{}
	if err := model.Use(func(r *edge.Runtime) error {
		items = append(items, r.Inserted()...)
		return nil
	}); err != nil {
		a.refuse(w, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"inserted": items})
}

// changeItem returns the handler of a change to one item; it answers 204.
func (a admin) changeItem(change func(http.ResponseWriter, *http.Request, *edge.Model, string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		model, err := a.find(r.PathValue("model"))
		if err == nil {
			err = change(w, r, model, r.PathValue("item"))
		}
		var tooLarge *http.MaxBytesError
		switch {
		case err == nil:
			w.WriteHeader(http.StatusNoContent)
		case errors.As(err, &tooLarge):
			fail(w, http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("an item may have %d bytes", maxBody))
		case errors.Is(err, edge.ErrFull):
			fail(w, http.StatusInsufficientStorage, "full", err.Error())
		case errors.Is(err, edge.ErrNoText):
			fail(w, http.StatusBadRequest, "no_text", err.Error())
		case errors.Is(err, edge.ErrItem), errors.Is(err, edge.ErrRequest):
			fail(w, http.StatusBadRequest, "bad_request", err.Error())
		default:
			a.refuse(w, err)
		}
	}
}
