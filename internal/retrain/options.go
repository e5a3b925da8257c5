package retrain

import (
	"cmp"
	"fmt"

	"github.com/wisp-project/wisp/hostgpu"
)

// Options are all choices that bear on what comes out of a run. A zero field means its
// default.
type Options struct {
	Seed         uint64  `json:"seed"`
	Epochs       int     `json:"epochs"`                 // over the new events and the rehearsed ones (3)
	LearningRate float64 `json:"learning_rate"`          // (0.003; of adapters 0.01)
	Rehearsal    float64 `json:"rehearsal"`              // old events learnt from again, as a multiple of the new ones (1); negative for none
	Holdout      float64 `json:"holdout"`                // share of the new events that is held out to compare on (0.2)
	SaveEvery    int     `json:"save_every"`             // steps between checkpoints (200)
	AdapterRank  int     `json:"adapter_rank,omitempty"` // as hostgpu.TrainOptions has it, of what goes on (0: all of it is trained)
	Student      string  `json:"student,omitempty"`      // size of the student that is distilled, empty for none
	Encoder      string  `json:"encoder,omitempty"`      // folder of the text encoder
	BotPerMinute int     `json:"bot_per_minute"`         // as data.PrepareOptions has it
	ItemBits     int     `json:"item_bits,omitempty"`    // as quantize.BuildOptions has it
	Limits       Limits  `json:"limits"`
	Gate         Gate    `json:"gate"`
}

// WithDefaults returns the options with defaults filled in.
func (o Options) WithDefaults() Options {
	o.Epochs, o.SaveEvery = cmp.Or(o.Epochs, 3), cmp.Or(o.SaveEvery, 200)
	rate := 0.003
	if o.AdapterRank > 0 {
		rate = 0.01
	}
	o.LearningRate, o.Holdout = cmp.Or(o.LearningRate, rate), cmp.Or(o.Holdout, 0.2)
	o.Rehearsal = max(cmp.Or(o.Rehearsal, 1), -1)
	o.Limits, o.Gate = o.Limits.WithDefaults(), o.Gate.WithDefaults()
	return o
}

// Validate reports the first option that has no meaning.
func (o Options) Validate() error {
	switch {
	case o.Epochs < 0 || o.SaveEvery < 0:
		return fmt.Errorf("%w: %d epochs, saved every %d steps; neither may be negative", ErrOptions, o.Epochs, o.SaveEvery)
	case o.ItemBits != 0 && (o.ItemBits < 3 || o.ItemBits > 8):
		return fmt.Errorf("%w: items in %d bits; must be 3 to 8", ErrOptions, o.ItemBits)
	case !(o.LearningRate >= 0 && o.LearningRate <= 1):
		return fmt.Errorf("%w: learning rate %v; must lie between 0 and 1", ErrOptions, o.LearningRate)
	case !(o.Rehearsal <= 1000):
		return fmt.Errorf("%w: rehearsal %v; must not exceed 1000", ErrOptions, o.Rehearsal)
	case !(o.Holdout >= 0 && o.Holdout <= 0.9):
		return fmt.Errorf("%w: holdout %v; must lie between 0 and 0.9", ErrOptions, o.Holdout)
	}
	if err := (hostgpu.TrainOptions{AdapterRank: o.AdapterRank}).Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrOptions, err)
	}
	if err := o.Limits.Validate(); err != nil {
		return err
	}
	return o.Gate.Validate()
}
