package edge

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/internal/layout"
)

// MaxInserted is the number of items that can be inserted into a runtime.
const MaxInserted = layout.MaxInserted

// NewItem is an item that the artefact does not have.
type NewItem struct {
	ID         string               `json:"id,omitempty"` // as those of the catalogue
	Title      string               `json:"title,omitempty"`
	Categories []string             `json:"categories,omitempty"`
	Attributes []artifact.Attribute `json:"attributes,omitempty"`
	// Text is what the item is known by. Empty means title, categories and the values
	// of attributes; longer ones are cut, see MaxText.
	Text string `json:"text,omitempty"`
}

// overlay is what a runtime laid over its artefact at one moment. It never changes.
type overlay struct {
	// laid is what the guest sees. The number of an item stays its own as long as it
	// is there; removed ones leave a hole, which is unavailable.
	laid    layout.Overlay
	patches []layout.Patch
	given   []NewItem         // by place, as the next does
	items   []artifact.Item   // by place; of holes those that were there last
	index   map[string]uint32 // number by id
	free    []uint32          // places of holes, the one that is one for longest first
	gone    map[uint32]bool   // items that were made unavailable
	labels  []artifact.Label  // those that the artefact does not have, in order; their numbers go on from its own
}

// view is a runtime as one request sees it, whatever is inserted meanwhile.
type view struct {
	*Runtime
	*overlay            // nil for nothing
	m        layout.Map // with the inserted items
}

// view returns the runtime as it is now.
func (r *Runtime) view() view {
	v := view{r, r.over.Load(), r.image.Map}
	if v.overlay != nil {
		v.m = v.m.With(&v.laid)
	}
	return v
}

// find returns the number of an item.
func (v view) find(id string) (uint32, bool) {
	if n, ok := v.Runtime.index[id]; ok {
		return n, true
	}
	if v.overlay == nil {
		return 0, false
	}
	n, ok := v.overlay.index[id]
	return n, ok
}

// item returns the item of a number.
func (v view) item(n uint32) *artifact.Item {
	if own := uint32(len(v.Runtime.items)); n >= own {
		return &v.overlay.items[n-own]
	}
	return &v.Runtime.items[n]
}

// Insert adds an item that is known by its text alone, as a new item of the catalogue
// would be. Every request that begins after Insert returns knows it: it is
// recommended and found, can be scored, stand in histories and be named by rules. One
// that was inserted with the same id is replaced. Sandboxes of all kinds of isolation
// see the same; nothing is written to the artefact, and Close forgets it.
//
// Errors wrap ErrItem for an item that a catalogue cannot have or has already,
// ErrNoText for an artefact that does not lead from texts to items, ErrFull, and those
// of Embed.
func (r *Runtime) Insert(ctx context.Context, item NewItem) error {
	own := artifact.Item{ID: item.ID, Title: item.Title, Categories: item.Categories, Attributes: item.Attributes}
	if err := artifact.ValidateItem(own); err != nil {
		return fmt.Errorf("%w: %w", ErrItem, err)
	}
	if _, ok := r.index[item.ID]; ok {
		return fmt.Errorf("%w: %q is in the catalogue already", ErrItem, item.ID)
	}
	if !r.image.Shape.Text.ItemMap {
		return fmt.Errorf("%w: it does not lead from texts to items, so that none can be inserted", ErrNoText)
	}
	e, err := r.Embed(ctx, cmp.Or(item.Text, textOf(own)))
	if err != nil {
		return err
	}
	in := layout.Inserted{Row: e.Row, Scale: e.Scale}
	if r.image.Shape.Text.ItemTexts {
		in.Text, in.TextScale = layout.TextRow(e.Vector)
	}
	if labels, _ := artifact.Labels([]artifact.Item{own}); len(labels) > layout.MaxItemLabels {
		return fmt.Errorf("%w: %q has %d categories and attributes, at most %d are possible", ErrItem, own.ID, len(labels), layout.MaxItemLabels)
	}
	return r.change(func(o *overlay) error {
		base := uint32(len(r.items))
		place, again := uint32(0), false
		if n, ok := o.index[own.ID]; ok {
			place, again = n-base, true
		}
		switch {
		case again:
		case len(o.items) < r.image.Map.MaxInserted:
			place = uint32(len(o.items))
			o.given, o.items, o.laid.Inserted = append(o.given, item), append(o.items, own), append(o.laid.Inserted, in)
		case len(o.free) > 0:
			place, o.free = o.free[0], o.free[1:]
		default:
			return fmt.Errorf("%w: %d are inserted; remove some, or export the artefact anew", ErrFull, len(o.items))
		}
		o.given[place], o.items[place], o.laid.Inserted[place] = item, own, in
		o.index[own.ID] = base + place
		return nil
	})
}

// textOf is what an item without a text is known by.
func textOf(it artifact.Item) string {
	parts := append([]string{it.Title}, it.Categories...)
	for _, a := range it.Attributes {
		parts = append(parts, a.Value)
	}
	return strings.Join(parts, " ")
}

// Remove takes an inserted item out again. An item of the catalogue cannot be
// removed, see SetAvailable. The error wraps ErrItem.
func (r *Runtime) Remove(id string) error {
	return r.change(func(o *overlay) error {
		n, ok := o.index[id]
		if !ok {
			return fmt.Errorf("%w: %q was not inserted", ErrItem, id)
		}
		place := n - uint32(len(r.items))
		o.laid.Inserted[place] = layout.Inserted{Row: make([]int8, r.image.Shape.Dim), Text: make([]int8, r.image.Shape.Text.Dim)}
		o.free = append(o.free, place)
		delete(o.index, id)
		delete(o.gone, n)
		return nil
	})
}

// SetAvailable says whether items may be recommended and found, as when they sell
// out and come back. Unavailable ones still count in histories and can be scored. It
// changes nothing, and returns an error that wraps ErrItem, where one of them is
// unknown.
func (r *Runtime) SetAvailable(available bool, ids ...string) error {
	return r.change(func(o *overlay) error {
		for _, id := range ids {
			n, ok := view{Runtime: r, overlay: o}.find(id)
			switch {
			case !ok:
				return fmt.Errorf("%w: there is no %q", ErrItem, id)
			case available:
				delete(o.gone, n)
			default:
				o.gone[n] = true
			}
		}
		return nil
	})
}

// Inserted returns the items inserted, in the order of their ids.
func (r *Runtime) Inserted() []artifact.Item {
	v := r.view()
	if v.overlay == nil {
		return nil
	}
	items := make([]artifact.Item, 0, len(v.overlay.index))
	for _, id := range slices.Sorted(maps.Keys(v.overlay.index)) {
		items = append(items, *v.item(v.overlay.index[id]))
	}
	return items
}

// takeOver inserts what was inserted into another runtime, nil for none, and makes
// unavailable what is there, as far as this artefact has no such items or knows them.
func (r *Runtime) takeOver(ctx context.Context, from *Runtime) {
	if from == nil {
		return
	}
	old := from.view()
	if old.overlay == nil {
		return
	}
	for place, item := range old.given {
		if n, ok := old.overlay.index[item.ID]; !ok || n != uint32(len(from.items)+place) {
			continue
		}
		if _, ok := r.view().find(item.ID); !ok {
			_ = r.Insert(ctx, item) // an artefact that cannot take it goes without
		}
	}
	for n := range old.gone {
		_ = r.SetAvailable(false, old.item(n).ID) // one that it does not have is not to be found anyway
	}
}

// change replaces the overlay by a copy that f changed, unless f fails.
func (r *Runtime) change(f func(*overlay) error) error {
	r.inserting.Lock()
	defer r.inserting.Unlock()
	select {
	case <-r.closed:
		return ErrClosed
	default:
	}
	o := &overlay{index: map[string]uint32{}, gone: map[uint32]bool{}}
	if was := r.over.Load(); was != nil {
		o = &overlay{
			laid:  layout.Overlay{Inserted: slices.Clone(was.laid.Inserted)},
			given: slices.Clone(was.given), items: slices.Clone(was.items), index: maps.Clone(was.index), free: slices.Clone(was.free),
			gone: maps.Clone(was.gone),
		}
	}
	if err := f(o); err != nil {
		return err
	}
	if err := o.number(r.labels, uint32(len(r.items)), r.image.Map.MaxLabels); err != nil {
		return err
	}
	o.laid.Unavailable = slices.Sorted(maps.Keys(o.gone))
	for _, place := range o.free {
		o.laid.Unavailable = append(o.laid.Unavailable, uint32(len(r.items))+place)
	}
	var err error
	if o.patches, err = r.layout.Patches(&o.laid); err != nil {
		return fmt.Errorf("%w: %w", ErrItem, err)
	}
	r.over.Store(o)
	return nil
}

// number gives the inserted items the numbers of their labels: of those that are
// known, and behind them of the others, so that those of one name lie together. own
// is the number of the first item, most the number that labels must stay below.
func (o *overlay) number(known []artifact.Label, own uint32, most int) error {
	items := make([]artifact.Item, len(o.items))
	for _, n := range o.index {
		items[n-own] = o.items[n-own]
	}
	labels, of := artifact.Labels(items)
	o.labels = nil
	for _, l := range labels {
		if _, ok := numberOf(known, nil, l); !ok {
			o.labels = append(o.labels, l)
		}
	}
	if len(known)+len(o.labels) > most {
		return fmt.Errorf("%w: inserted items have %d categories and values of attributes that the artefact does not, %d are possible", ErrFull, len(o.labels), most-len(known))
	}
	for i := range o.laid.Inserted {
		o.laid.Inserted[i].Labels = nil
		if of == nil {
			continue
		}
		for _, n := range of[i] {
			number, _ := numberOf(known, o.labels, labels[n])
			o.laid.Inserted[i].Labels = append(o.laid.Inserted[i].Labels, number)
		}
		slices.Sort(o.laid.Inserted[i].Labels)
	}
	return nil
}

// numberOf returns the number of a label among those of an artefact, and those of
// inserted items; both are in order.
func numberOf(known, later []artifact.Label, l artifact.Label) (uint32, bool) {
	if i, ok := slices.BinarySearchFunc(known, l, artifact.Label.Compare); ok {
		return uint32(i), true
	}
	i, ok := slices.BinarySearchFunc(later, l, artifact.Label.Compare)
	return uint32(len(known) + i), ok
}
