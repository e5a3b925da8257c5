package edge_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
)

// late is a context that holds its request up between its turn and its sandbox,
// where its deadline is asked for.
type late struct {
	context.Context
	once          sync.Once
	entered, open chan struct{}
}

func (l *late) Deadline() (time.Time, bool) {
	l.once.Do(func() {
		close(l.entered)
		<-l.open
	})
	return l.Context.Deadline()
}

// TestOldViewOnNewSandbox has a request that began before the first insertion get a
// sandbox that has already served one that began after it: it sees the catalogue as
// it was.
func TestOldViewOnNewSandbox(t *testing.T) {
	a, _ := build(t, layouttest.TextShapes()[0])
	r := start(t, a, edge.Options{Sandboxes: 2, Timeout: time.Minute, AllowUnsigned: true})
	want, err := r.Recommend(t.Context(), edge.Request{K: 1000})
	if err != nil {
		t.Fatal(err)
	}
	l := &late{Context: t.Context(), entered: make(chan struct{}), open: make(chan struct{})}
	var got edge.Response
	var wg sync.WaitGroup
	wg.Go(func() {
		var err error
		if got, err = r.Recommend(l, edge.Request{K: 1000}); err != nil {
			t.Error(err)
		}
	})
	<-l.entered
	if err := r.Insert(t.Context(), edge.NewItem{ID: "new", Title: "new"}); err != nil {
		t.Fatal(err)
	}
	if now, err := r.Recommend(t.Context(), edge.Request{K: 1000}); err != nil || len(now.Items) != len(want.Items)+1 {
		t.Errorf("after the insertion: %d items, want one more than %d (%v)", len(now.Items), len(want.Items), err)
	}
	close(l.open)
	wg.Wait()
	if len(got.Items) != len(want.Items) {
		t.Errorf("%d items, want the %d of before", len(got.Items), len(want.Items))
	}
	if now, err := r.Recommend(t.Context(), edge.Request{K: 1000}); err != nil || len(now.Items) != len(want.Items)+1 {
		t.Errorf("afterwards: %d items (%v)", len(now.Items), err)
	}
}
