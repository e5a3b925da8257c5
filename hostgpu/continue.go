package hostgpu

import (
	"fmt"
	"maps"
	"slices"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
)

// Ancestor is a model that goes on with newer data, in which items may have come,
// gone or changed their places.
type Ancestor struct {
	Model *model.Model
	Items []int32 // of each item of the newer data, its place in Model; -1 for one that Model does not know
}

// check reports places that are not of the items of ds and of the model; nil is sound.
func (a *Ancestor) check(ds *data.Dataset) error {
	if a == nil {
		return nil
	}
	if len(a.Items) != len(ds.Items) {
		return fmt.Errorf("%w: a model goes on, and of %d items %d have a place in it", ErrData, len(ds.Items), len(a.Items))
	}
	for i, j := range a.Items {
		if int(j) >= a.Model.Config.Items {
			return fmt.Errorf("%w: item %d is said to be item %d of a model that has %d", ErrData, i, j, a.Model.Config.Items)
		}
	}
	return nil
}

// unlearnt lists the items of which a has learnt nothing, among those that are ranked:
// they are new, or a knows them by their given vectors alone.
func (a *Ancestor) unlearnt(place []int32) []int {
	var items []int
	for i, j := range a.Items {
		if place[i] >= 0 && (j < 0 || !slices.ContainsFunc(a.Model.Weights[model.ItemEmbedding].Row(int(j)), func(x float32) bool { return x != 0 })) {
			items = append(items, i)
		}
	}
	return items
}

// NewContinuation prepares to go on with the training of a model, as NewTrainer does
// from chance: lessons.From is where it stands, lessons.Lessons are the histories that
// it learns from now, with the item that came after each event, and no teacher. Where
// these are only part of what is known (what is new, and a sample of the old), split
// has the rest: from its training events come the counts of each item, by which items
// are ranked and sampled and the cold-start vector is fitted.
//
// The model's item vectors are taken over, whatever they are made of now: W_feat is
// regressed on the given vectors, which change with every text that comes, and the
// embeddings take up the difference. A new item starts from what its given vector says
// of it, or else from chance. The moments of the optimiser start from zero. With
// AdapterRank that is all that happens to the weights which adapters leave alone. The
// error wraps ErrOptions where the options ask for other shapes than the model has, and
// ErrData where lessons or places do not belong to ds.
func NewContinuation(ds *data.Dataset, split *data.Split, given Vectors, lessons Lessons, opts TrainOptions) (*Trainer, error) {
	switch {
	case opts.Soft != (SoftTerm{}) || lessons.Targets != nil:
		return nil, fmt.Errorf("%w: a continuation has no teacher", ErrOptions)
	case given.Encoder != nil:
		return nil, fmt.Errorf("%w: a text encoder is not trained by a continuation", ErrOptions)
	case lessons.From == nil:
		return nil, fmt.Errorf("%w: a continuation needs a model", ErrData)
	}
	if err := lessons.From.check(ds); err != nil {
		return nil, err
	}
	if err := lessons.check(ds); err != nil {
		return nil, err
	}
	c, err := inMemory(split, &lessons, len(ds.Items))
	if err != nil {
		return nil, err
	}
	return newTrainer(ds, c, given, &lessons, opts)
}

// inherit returns the weights that a goes on with.
func (t *Trainer) inherit(a *Ancestor, seed uint64) (model.Weights, error) {
	was, c := a.Model.Config, t.cfg
	was.Items, was.Features = c.Items, c.Features
	if was != c {
		return nil, fmt.Errorf("%w: the model that goes on has the shapes %+v, the options ask for %+v", ErrOptions, was, c)
	}
	w := initial(c, seed)
	for name, x := range a.Model.Weights {
		if name != model.ItemEmbedding && name != model.ItemFeatures {
			copy(w[name].Data, x.Data)
		}
	}
	own, known := w[model.ItemEmbedding], make([]float64, c.Items)
	for i, j := range a.Items {
		switch {
		case j >= 0:
			copy(own.Row(i), a.Model.ItemVectors.Row(int(j)))
			known[i] = t.counts[i]
		case t.given.describes(i):
			clear(own.Row(i))
		}
	}
	if c.Features == 0 {
		return w, nil
	}
	f := t.given.Items
	features, err := fitFeatures(w[model.ItemFeatures], own, f, known)
	if err != nil {
		return nil, err
	}
	w = maps.Clone(w)
	w[model.ItemFeatures] = features
	said := model.NewTensor(c.Items, c.Dim)
	gemm(false, true, c.Items, c.Dim, c.Features, 1, f.Data, c.Features, features.Data, c.Features, 0, said.Data, c.Dim)
	for i, j := range a.Items {
		if j < 0 {
			continue
		}
		row := own.Row(i)
		for d, x := range said.Row(i) {
			row[d] -= x
		}
	}
	return w, nil
}
