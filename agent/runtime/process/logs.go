package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/agent/stepinit"
	"github.com/slipway-ci/slipway/shared/ci"
)

// How often a quiet log is looked at. The end of the step is noticed at once.
const (
	pollMin = 4 * time.Millisecond
	pollMax = 100 * time.Millisecond
)

// Logs reads the spool. Its cursors are offsets into it.
func (r *Runtime) Logs(ctx context.Context, h runtime.Handle, since runtime.Cursor, sink runtime.Sink) error {
	dir, err := r.own(h)
	if err != nil {
		return err
	}
	off := int64(0)
	if since != "" {
		if off, err = strconv.ParseInt(string(since), 10, 64); err != nil || off < 0 {
			return ci.Errorf(ci.Invalid, "cannot read the log of attempt %s from %q: that is no cursor of it", h.Attempt, since)
		}
	}
	w, err := stepinit.OpenWatch(dir)
	if missing(err) {
		return ci.Errorf(ci.NotFound, "cannot read the log of attempt %s: it was removed", h.Attempt)
	}
	if err != nil {
		return err
	}
	defer w.Close()
	log, f, err := open(ctx, dir, off, w)
	if err != nil || f == nil {
		return err
	}
	defer f.Close()
	if err := follow(ctx, log, w, sink); err != nil {
		return err
	}
	if log.Torn() {
		r.cfg.Log.Warn("the last record of a log is torn: its init was killed", "attempt", h.Attempt)
	}
	return nil
}

// open waits for the log to be there. A step that ended without one has none.
func open(ctx context.Context, dir string, off int64, w *stepinit.Watch) (*stepinit.Reader, *os.File, error) {
	for {
		claimed, err := stepinit.Claimed(dir)
		if err != nil {
			return nil, nil, err
		}
		// Asked before the file is opened, or the log of a quick step were missed.
		gone, err := w.Gone(ctx, 0)
		if err != nil {
			return nil, nil, err
		}
		log, f, err := stepinit.OpenLog(dir, off)
		if err == nil || !missing(err) {
			return log, f, err
		}
		if claimed && gone || !exists(dir) {
			return nil, nil, nil
		}
		if err := sleep(ctx, pollMin); err != nil {
			return nil, nil, err
		}
	}
}

func follow(ctx context.Context, r *stepinit.Reader, w *stepinit.Watch, sink runtime.Sink) error {
	gone, wait := false, pollMin
	for {
		n, err := drain(ctx, r, sink)
		if err != nil {
			return err
		}
		if gone {
			return nil
		}
		if wait = min(2*wait, pollMax); n > 0 {
			wait = pollMin
		}
		// What was written before it went is read by the next round.
		if gone, err = w.Gone(ctx, wait); err != nil {
			return err
		}
	}
}

// drain hands over what is there and counts it.
func drain(ctx context.Context, r *stepinit.Reader, sink runtime.Sink) (n int, err error) {
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		if err := ctx.Err(); err != nil {
			return n, context.Cause(ctx)
		}
		n++
		err = sink.Write(runtime.Record{
			Time: e.Time, Stderr: e.Stderr, Partial: e.Partial, Data: e.Data,
			Cursor: runtime.Cursor(strconv.FormatInt(e.End, 10)),
		})
		if err != nil {
			return n, fmt.Errorf("cannot hand on the log: %w", err)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
