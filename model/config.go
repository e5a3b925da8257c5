// Package model defines what wisp computes: the configuration, the named
// weights and a plain float32 forward pass. It is the reference that the
// training graphs and the int8 arithmetic are checked against, and is written
// to be read, not to be fast.
package model

import (
	"fmt"
	"math/bits"
)

// Config fixes the shapes of a model.
type Config struct {
	Items        int `json:"items"`                  // N: size of the catalogue
	Features     int `json:"features"`               // F: width of the given item vectors, 0 for none
	Descriptions int `json:"descriptions,omitempty"` // F_u: width of the given user vectors, 0 for none
	Dim          int `json:"dim"`                    // D: width of items, users and the residual stream
	Layers       int `json:"layers"`                 // transformer blocks of the user tower
	Heads        int `json:"heads"`                  // H: attention heads; divides Dim
	FFN          int `json:"ffn"`                    // inner width of a block's feed-forward part
	Window       int `json:"window"`                 // W: an event attends to the last W events, itself included
	EventTypes   int `json:"event_types"`            // E: entries of the event type vocabulary
	GapBuckets   int `json:"gap_buckets"`            // G: logarithmic buckets of the time gap
}

// Validate reports the first field that no model can have.
func (c Config) Validate() error {
	for _, f := range []struct {
		name       string
		value, min int
		max        int
	}{
		{"items", c.Items, 1, 1 << 26},
		{"features", c.Features, 0, 1 << 14},
		{"descriptions", c.Descriptions, 0, 1 << 14},
		{"dim", c.Dim, 1, 1024},
		{"layers", c.Layers, 1, 32},
		{"heads", c.Heads, 1, 64},
		{"ffn", c.FFN, 1, 4096},
		{"window", c.Window, 1, 256},
		{"event_types", c.EventTypes, 1, 256},
		{"gap_buckets", c.GapBuckets, 1, 33},
	} {
		if f.value < f.min || f.value > f.max {
			return fmt.Errorf("%w: %s is %d, must lie between %d and %d", ErrConfig, f.name, f.value, f.min, f.max)
		}
	}
	if c.Dim%c.Heads != 0 {
		return fmt.Errorf("%w: dim %d is not a multiple of heads %d", ErrConfig, c.Dim, c.Heads)
	}
	return nil
}

// Reach returns the number of latest events that an answer can depend on:
// Layers*(Window-1)+1. Events before them change nothing, bit for bit.
func (c Config) Reach() int { return c.Layers*(c.Window-1) + 1 }

// GapBucket returns the bucket of a gap in seconds: 0 for no gap, otherwise one
// more than the whole part of its binary logarithm, the last bucket open ended.
func (c Config) GapBucket(seconds uint32) int {
	return min(bits.Len32(seconds), c.GapBuckets-1)
}

// Event is one past event as the user tower reads it.
type Event struct {
	Item int32  // index into the catalogue
	Type uint8  // index into the event type vocabulary
	Gap  uint32 // seconds since the event before, 0 for the first
}
