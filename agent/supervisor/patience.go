package supervisor

import (
	"context"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/slipway-ci/slipway/shared/ci"
)

// patience is the pause between two tries of something that will work again: a
// coordinator, an engine, a disk. It stays short, since a step waits.
func patience() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = 100*time.Millisecond, 2*time.Second
	return b
}

// forever calls try until it succeeds. It fails only when ctx ends.
func (s *Supervisor) forever(ctx context.Context, what string, try func() error) error {
	b := patience()
	for n := 1; ; n++ {
		err := try()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("cannot %s: %w", what, context.Cause(ctx))
		}
		if n == 1 {
			s.deps.Log.Warn("cannot "+what+"; trying on", "error", err)
		}
		if !pause(ctx, b.NextBackOff()) {
			return fmt.Errorf("cannot %s: %w", what, context.Cause(ctx))
		}
	}
}

// pause waits for d, or returns false when ctx ends.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// refused reports whether an answer means that the attempt is not ours, or
// that no repetition can make the request right.
func refused(err error) bool {
	switch ci.KindOf(err) {
	case ci.NotFound, ci.Conflict, ci.Invalid:
		return true
	default:
		return false
	}
}

// recent is a set of the last n attempts.
type recent struct {
	ids  map[ci.AttemptID]bool
	ring []ci.AttemptID
	next int
}

func newRecent(n int) *recent {
	return &recent{ids: map[ci.AttemptID]bool{}, ring: make([]ci.AttemptID, n)}
}

func (r *recent) add(id ci.AttemptID) {
	delete(r.ids, r.ring[r.next])
	r.ring[r.next], r.ids[id] = id, true
	r.next = (r.next + 1) % len(r.ring)
}

func (r *recent) has(id ci.AttemptID) bool { return r.ids[id] }
