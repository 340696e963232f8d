package logship

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/logpath"
	"github.com/slipway-ci/slipway/shared/objectstore"
)

const (
	maxPause = 15 * time.Second
	// maxStatus bounds how much of a status is read back, in bytes.
	maxStatus = 8 << 20
)

// putForever puts an object however often it takes. It returns an error only
// for a conflict, which the caller asked for, and when ctx ends.
func (s *Shipper) putForever(ctx context.Context, key string, data []byte, opt objectstore.PutOptions) error {
	return s.forever(ctx, "put "+key, func() error {
		_, err := s.bucket.Put(ctx, key, bytes.NewReader(data), int64(len(data)), opt)
		return err
	})
}

// forever calls try until it succeeds, conflicts or is final, or ctx ends.
func (s *Shipper) forever(ctx context.Context, what string, try func() error) error {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 200*time.Millisecond, maxPause
	for n := 1; ; n++ {
		err := try()
		var final *finalError
		switch {
		case err == nil:
			if n > 1 {
				s.log.Info("the store answers again", "what", what, "tries", n)
			}
			return nil
		case errors.As(err, &final):
			return final.err
		case ci.KindOf(err) == ci.Conflict:
			return err
		case ctx.Err() != nil:
			return fmt.Errorf("cannot %s: %w", what, errors.Join(context.Cause(ctx), err))
		case n == 1:
			s.log.Warn("the store does not take an object; trying on", "what", what, "error", err)
		}
		timer := time.NewTimer(pause.NextBackOff())
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("cannot %s: %w", what, errors.Join(context.Cause(ctx), err))
		}
	}
}

// finalError is a failure that no other try can mend.
type finalError struct{ err error }

func (e *finalError) Error() string { return e.err.Error() }

// PutStatus puts an attempt's final status, once: a status that is there
// already was put before a restart, and stands. It waits for the store.
func (s *Shipper) PutStatus(ctx context.Context, path logpath.Path, status logpath.Status) error {
	data, err := json.Marshal(status)
	if err != nil {
		return fmt.Errorf("cannot write the status of attempt %s: %w", status.Attempt, err)
	}
	err = s.putForever(ctx, path.Status(), data, objectstore.PutOptions{IfNoneMatch: true, ContentType: "application/json"})
	if ci.KindOf(err) != ci.Conflict {
		return err
	}
	var there logpath.Status
	old, err := s.get(ctx, path.Status(), maxStatus)
	if err != nil || json.Unmarshal(old, &there) != nil || there.Attempt != status.Attempt || there.Fence != status.Fence {
		s.log.Error("a status that this agent did not write stands at an attempt's place", "path", path.String(), "error", err)
	}
	return nil
}

// PutState puts an attempt's live state. It tries once: another one follows.
func (s *Shipper) PutState(ctx context.Context, path logpath.Path, state logpath.State) error {
	data, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("cannot write the state of attempt %s: %w", state.Attempt, err)
	}
	_, err = s.bucket.Put(ctx, path.State(), bytes.NewReader(data), int64(len(data)), objectstore.PutOptions{ContentType: "application/json"})
	return err
}

// PutReport keeps a report that the step left in its folder where one put
// through S3 would lie. It waits for the store.
func (s *Shipper) PutReport(ctx context.Context, key string, data []byte) error {
	return s.putForever(ctx, key, data, objectstore.PutOptions{})
}

// GetReport reads a report that the step put through S3 itself.
func (s *Shipper) GetReport(ctx context.Context, key string) ([]byte, error) {
	return s.get(ctx, key, logpath.MaxReport+1)
}

// get reads a small object.
func (s *Shipper) get(ctx context.Context, key string, limit int64) ([]byte, error) {
	r, err := s.bucket.Get(ctx, key, 0, limit)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	return data, errors.Join(err, r.Close())
}
