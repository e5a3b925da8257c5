package hostgpu

import (
	"cmp"
	"fmt"
	"math/rand/v2"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
)

// TextTask is what a text encoder is fine-tuned on: queries, and the item that
// each should find. Texts are token ids, [CLS] and [SEP] included.
type TextTask struct {
	// Items holds the text of each item, nil for one without any, which is no
	// target and is never found.
	Items [][]int32
	// Pairs returns the pairs of an epoch, counted from 0, in the order in which
	// they are trained on: as many in each epoch, and for the same epoch the same.
	Pairs func(epoch int) ([]TextPair, error)
	// Valid are the validation cases; without any, a run takes all its epochs.
	Valid []TextCase
}

// TextPair is a query and the index of the item that it should find.
type TextPair struct {
	Query []int32
	Item  int32
}

// TextCase is a query of a validation.
type TextCase struct {
	TextPair
	Seen []int32 // items that are no answer, such as those of the history
}

// ProfileTaskOptions say how the task of finding the next item is put together.
// A zero field means its default.
type ProfileTaskOptions struct {
	Profile   *data.ProfileText // how a user becomes text (data.DefaultProfileText)
	MaxTokens int               // that a text is cut to (what the encoder's configuration says)
	MaxPairs  int               // pairs of an epoch at most (10,000); negative for all
	MaxCases  int               // validation cases at most (1,000); negative for all
	Seed      uint64            // of the choice of pairs and cases
}

func (o ProfileTaskOptions) withDefaults(c model.TextConfig) (ProfileTaskOptions, error) {
	if o.MaxTokens = cmp.Or(o.MaxTokens, c.MaxTokens); o.MaxTokens < 3 || o.MaxTokens > c.Positions {
		return o, fmt.Errorf("%w: texts cut to %d tokens, must lie between 3 and the %d of the encoder", ErrOptions, o.MaxTokens, c.Positions)
	}
	o.MaxPairs, o.MaxCases = cmp.Or(o.MaxPairs, 10_000), cmp.Or(o.MaxCases, 1_000)
	if o.Profile == nil {
		var err error
		if o.Profile, err = data.NewProfileText(data.DefaultProfileText, 0); err != nil {
			return o, err
		}
	}
	return o, nil
}

// NewProfileTask returns the task of finding the next item of a user by the text
// of the profile. A pair is an event of split.Train, and the profile as it was
// before; a first event counts where something is known of the user. Each epoch
// draws its pairs anew, without repetition. Of split.Valid, some cases are drawn
// once.
//
// tok must be the tokenizer of the encoder with configuration c. The error wraps
// ErrOptions, ErrData where no event makes a pair, or data.ErrOptions for a
// template that cannot render a profile.
func NewProfileTask(ds *data.Dataset, split *data.Split, tok *tokenize.Tokenizer, c model.TextConfig, opts ProfileTaskOptions) (TextTask, error) {
	if err := tok.CheckSize(c.Vocabulary); err != nil {
		return TextTask{}, err
	}
	o, err := opts.withDefaults(c)
	if err != nil {
		return TextTask{}, err
	}
	task := TextTask{Items: make([][]int32, len(ds.Items))}
	for i := range ds.Items {
		if text := data.ItemText(&ds.Items[i]); text != "" {
			task.Items[i] = tok.Encode(nil, text, o.MaxTokens)
		}
	}
	query := func(user int32, history []data.Interaction) ([]int32, error) {
		text, err := o.Profile.Render(ds, &ds.Users[user], history)
		return tok.Encode(nil, text, o.MaxTokens), err
	}
	events := trainedEvents(ds, split.Train, task.Items)
	if len(events) == 0 {
		return TextTask{}, fmt.Errorf("%w: no training event has an item with a text and something known of the user before it; prepare the data with titles or texts of items",
			ErrData)
	}
	task.Pairs = func(epoch int) ([]TextPair, error) {
		pairs := make([]TextPair, 0, atMost(len(events), o.MaxPairs))
		for _, i := range rand.New(rand.NewPCG(o.Seed, uint64(epoch))).Perm(len(events))[:cap(pairs)] {
			e := events[i]
			history := split.Train[e.user]
			ids, err := query(e.user, history[:e.at])
			if err != nil {
				return nil, err
			}
			pairs = append(pairs, TextPair{Query: ids, Item: history[e.at].Item})
		}
		return pairs, nil
	}
	rng := rand.New(rand.NewPCG(o.Seed, 1<<63)) // an epoch that no run has
	for _, i := range rng.Perm(len(split.Valid))[:atMost(len(split.Valid), o.MaxCases)] {
		c := split.Valid[i]
		ids, err := query(c.User, c.History)
		if err != nil {
			return TextTask{}, err
		}
		v := TextCase{TextPair: TextPair{Query: ids, Item: c.Target.Item}}
		for _, e := range c.History {
			v.Seen = append(v.Seen, e.Item)
		}
		task.Valid = append(task.Valid, v)
	}
	return task, nil
}

// atMost is n, or limit where that is less and not negative.
func atMost(n, limit int) int {
	if limit < 0 {
		return n
	}
	return min(n, limit)
}

// trainedEvent is the place of an event in the histories.
type trainedEvent struct{ user, at int32 }

// trainedEvents lists the events that make a pair.
func trainedEvents(ds *data.Dataset, histories [][]data.Interaction, items [][]int32) []trainedEvent {
	var events []trainedEvent
	for u, h := range histories {
		for at, e := range h {
			if items[e.Item] != nil && (at > 0 || data.UserText(&ds.Users[u]) != "") {
				events = append(events, trainedEvent{int32(u), int32(at)})
			}
		}
	}
	return events
}
