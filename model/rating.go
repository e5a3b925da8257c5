package model

import (
	"encoding/json"
	"fmt"
	"math"
)

// RatingHead predicts what rating a user would give an item, from the towers of a
// model as they are:
//
//	r(u, i) = mean + b_user + b_i + (D·u + c)·v_i
//
// which is rating regression θ(u)ᵀx(i) with x(i) = (1, b_i, v_i) and
// θ(u) = (mean + b_user, 1, D·u + c). It knows no identities of users: b_user is folded
// in from the history, how far its ratings lie above what their items get, drawn to 0
// by Shrink as in a regression with L2 (Koren 2010). So it serves users whom training
// never met.
type RatingHead struct {
	Low, High float32   // scale of the data: predictions are cut to it
	Mean      float32   // of all ratings
	Shrink    float32   // λ: how many ratings it takes to believe b_user half
	Levels    []float32 // (E) the rating that an event of each type stands for; NaN for a type without
	Items     []float32 // (N) b_i
	Map       *Tensor   // D, (D, D)
	MapBias   []float32 // c, (D)
}

// Names of the tensors of a rating head in its file, and of the metadata.
const (
	ratingItems   = "rating.item.bias"  // (N)
	ratingMap     = "rating.map.weight" // (D, D)
	ratingMapBias = "rating.map.bias"   // (D)
	ratingKey     = "wisp.rating"
)

// Validate reports what of h does not fit a model with configuration c. The error
// wraps ErrInput.
func (h *RatingHead) Validate(c Config) error {
	if len(h.Levels) != c.EventTypes || len(h.Items) != c.Items || h.Map == nil || len(h.Map.Shape) != 2 || h.Map.Shape[0] != c.Dim || h.Map.Shape[1] != c.Dim || len(h.MapBias) != c.Dim {
		return fmt.Errorf("%w: a rating head for %d event types, %d items and width %d; the model has %d, %d and %d",
			ErrInput, len(h.Levels), len(h.Items), len(h.MapBias), c.EventTypes, c.Items, c.Dim)
	}
	for _, x := range [][]float32{{h.Low, h.High, h.Mean, h.Shrink}, h.Items, h.Map.Data, h.MapBias} {
		if i := notFinite(x); i >= 0 {
			return fmt.Errorf("%w: a rating head holds %v", ErrInput, x[i])
		}
	}
	if h.Low > h.High || h.Shrink < 0 {
		return fmt.Errorf("%w: a rating head for ratings from %v to %v with shrinkage %v", ErrInput, h.Low, h.High, h.Shrink)
	}
	for i, l := range h.Levels {
		if math.IsInf(float64(l), 0) {
			return fmt.Errorf("%w: event type %d of a rating head stands for %v", ErrInput, i, l)
		}
	}
	return nil
}

// UserBias returns b_user of a history, 0 where none of its events has a level.
func (h *RatingHead) UserBias(history []Event) float32 {
	var sum, n float32
	for _, e := range history {
		if level := h.Levels[e.Type]; level == level { // NaN is not
			sum += level - h.Mean - h.Items[e.Item]
			n++
		}
	}
	if n == 0 {
		return 0
	}
	return sum / (n + h.Shrink)
}

// Rate writes the ratings of items, numbers of the catalogue, to dst, of the same
// length. u, (D), is the user vector of m, for history and whatever else is known of
// the user. Only the last Config.Reach events of the history count, as for u.
func (h *RatingHead) Rate(dst []float32, m *Model, u []float32, history []Event, items []int32) {
	history = history[max(0, len(history)-m.Config.Reach()):]
	q := make([]float32, m.Config.Dim)
	linear(q, h.Map, &Tensor{Shape: []int{len(q)}, Data: h.MapBias}, u, false)
	user := h.UserBias(history)
	for k, i := range items {
		r := h.Mean + user + h.Items[i] + dot(q, m.ItemVectors.Row(int(i)))
		dst[k] = min(max(r, h.Low), h.High)
	}
}

// ratingMeta is what of a rating head is no tensor.
type ratingMeta struct {
	Low    float32    `json:"low"`
	High   float32    `json:"high"`
	Mean   float32    `json:"mean"`
	Shrink float32    `json:"shrink"`
	Levels []*float32 `json:"levels"` // null for a type without
}

// SaveRatingHead writes a rating head to a safetensors file, with more metadata.
func SaveRatingHead(path string, h *RatingHead, metadata map[string]string) error {
	meta := ratingMeta{Low: h.Low, High: h.High, Mean: h.Mean, Shrink: h.Shrink}
	for i := range h.Levels {
		if l := &h.Levels[i]; *l == *l {
			meta.Levels = append(meta.Levels, l)
		} else {
			meta.Levels = append(meta.Levels, nil)
		}
	}
	b, err := json.Marshal(meta)
	if err != nil {
		return fmt.Errorf("model: save rating head: %w", err)
	}
	all := map[string]string{ratingKey: string(b)}
	for k, v := range metadata {
		all[k] = v
	}
	return SaveTensors(path, map[string]*Tensor{
		ratingItems: {Shape: []int{len(h.Items)}, Data: h.Items}, ratingMap: h.Map, ratingMapBias: {Shape: []int{len(h.MapBias)}, Data: h.MapBias},
	}, all)
}

// LoadRatingHead reads what SaveRatingHead wrote, with its metadata. See Validate.
func LoadRatingHead(path string) (*RatingHead, map[string]string, error) {
	tensors, metadata, err := LoadTensors(path)
	if err != nil {
		return nil, nil, err
	}
	var meta ratingMeta
	if err := json.Unmarshal([]byte(metadata[ratingKey]), &meta); err != nil {
		return nil, nil, fmt.Errorf("%w: %s: metadata %s: %w", ErrFormat, path, ratingKey, err)
	}
	items, m, bias := tensors[ratingItems], tensors[ratingMap], tensors[ratingMapBias]
	if items == nil || m == nil || bias == nil {
		return nil, nil, fmt.Errorf("%w: %s: it lacks a tensor of %s, %s and %s", ErrFormat, path, ratingItems, ratingMap, ratingMapBias)
	}
	h := &RatingHead{Low: meta.Low, High: meta.High, Mean: meta.Mean, Shrink: meta.Shrink, Items: items.Data, Map: m, MapBias: bias.Data}
	for _, l := range meta.Levels {
		if l == nil {
			h.Levels = append(h.Levels, float32(math.NaN()))
		} else {
			h.Levels = append(h.Levels, *l)
		}
	}
	return h, metadata, nil
}
