package q8_test

import (
	"fmt"
	"testing"

	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/layout/layouttest"
)

// TestRulesGuest holds the kernel to the definition, bit for bit, on every shape:
// requests with rules and for similar items, over an image as it is and with one
// overlay after the other, and after it was taken away again.
func TestRulesGuest(t *testing.T) {
	n := 96
	if testing.Short() {
		n = 24
	}
	for _, e := range engines {
		for i, s := range append(layouttest.Shapes(), layouttest.TextShapes()...) {
			t.Run(fmt.Sprintf("%s/%d-%dx%d", e.name, i, s.Items, s.Dim), func(t *testing.T) {
				t.Parallel()
				image, m := open(t, layouttest.Params(s, 1))
				g := newGuest(t, e.config(), image)
				same(t, g, m, layouttest.RankRequests(s, image.Map, n/e.share, 2))
				for inserted := range 4 {
					o := layouttest.Overlay(s, image.Map, 7*inserted, uint64(inserted))
					if i%5 == 4 {
						o.Unavailable = nil
					}
					g.lay(t, image, o)
					same(t, g, m.WithOverlay(o), layouttest.RankRequests(s, image.Map.With(&o), n/e.share/2, uint64(3+inserted)))
				}
				g.lay(t, image, layout.Overlay{})
				same(t, g, m, layouttest.RankRequests(s, image.Map, 8, 8))
			})
		}
	}
}
