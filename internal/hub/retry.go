package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

const (
	firstWait = 500 * time.Millisecond
	// longestWait is the longest pause between two attempts of our own choice,
	// longestAsked the longest that a hub may ask for.
	longestWait  = 30 * time.Second
	longestAsked = 5 * time.Minute
)

// transientError is an error that may be gone at the next attempt.
type transientError struct {
	err   error
	after time.Duration // the pause that the hub asks for, 0 if it does not
}

func (e *transientError) Error() string { return e.err.Error() }
func (e *transientError) Unwrap() error { return e.err }

func transient(format string, args ...any) error {
	return &transientError{err: fmt.Errorf(format, args...)}
}

// retry calls try until it succeeds, fails for good, or has failed so often in
// a row without getting further that it is given up.
func (c *Client) retry(ctx context.Context, file string, try func() (further bool, err error)) error {
	attempts := c.Attempts
	if attempts <= 0 {
		attempts = 6
	}
	for failed := 1; ; failed++ {
		further, err := try()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("hub: %s: %w", file, ctx.Err())
		}
		var t *transientError
		if !errors.As(err, &t) {
			return err
		}
		if further {
			failed = 1
		}
		if failed >= attempts {
			return fmt.Errorf("%w: %s: %w (attempt %d); what was fetched is kept: run the same command again to go on", ErrUnavailable, file, err, failed)
		}
		if t.after > longestAsked {
			return fmt.Errorf("%w: %s: %w; the hub asks to wait %v: run the same command again then", ErrUnavailable, file, err, t.after)
		}
		if err := c.pause(ctx, max(c.backOff(failed), t.after)); err != nil {
			return fmt.Errorf("hub: %s: %w", file, err)
		}
	}
}

// backOff is the pause after the given number of failures: doubled each time,
// and between half and all of that by chance, so that many clients do not come
// back at once.
func (c *Client) backOff(failed int) time.Duration {
	d := min(firstWait<<min(failed-1, 10), longestWait)
	if c.Rand == nil {
		return d
	}
	return d/2 + time.Duration(c.Rand.Int64N(int64(d/2)+1))
}

func (c *Client) pause(ctx context.Context, d time.Duration) error {
	if c.Sleep != nil {
		return c.Sleep(ctx, d)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// retryAfter is the pause that an answer asks for: seconds, or a time, which is
// taken by the clock of the hub.
func retryAfter(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	if s, err := strconv.ParseInt(v, 10, 32); err == nil {
		return time.Duration(max(s, 0)) * time.Second
	}
	until, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0
	}
	return max(until.Sub(now), 0)
}
