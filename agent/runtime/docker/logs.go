package docker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"github.com/slipway-ci/slipway/agent/runtime"
)

// maxFrame bounds what the engine may send as one record: 16 KiB, and its time.
const maxFrame = 1 << 20

// sinkError sets the sink's failures apart from the engine's.
type sinkError struct{ error }

func (e sinkError) Unwrap() error { return e.error }

// Logs follows the log while the container runs. A follow may end early without
// an error, so that once the container has ended the rest is read without one:
//
//	follow ──ended early──> container runs? ──yes──> follow from the cursor
//	                                        ──no───> read from the cursor, done
func (r *Runtime) Logs(ctx context.Context, h runtime.Handle, since runtime.Cursor, sink runtime.Sink) error {
	id, err := ref(h)
	if err != nil {
		return err
	}
	at, err := parseCursor(since)
	if err != nil {
		return fmt.Errorf("cannot read the log of attempt %s: %w", h.Attempt, err)
	}
	var pause backoff
	for final := false; ; {
		before := at.total
		err := r.readSome(ctx, h, id, &at, !final, sink)
		if err == nil && final {
			return nil
		}
		if err == nil {
			final, err = r.ended(ctx, id)
		}
		var sunk sinkError
		switch {
		case errdefs.IsNotFound(err), errdefs.IsConflict(err):
			return nil // removed, or about to be; nothing more will ever come
		case errors.As(err, &sunk):
			return fmt.Errorf("cannot hand on the log of attempt %s: %w", h.Attempt, sunk.error)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && !away(ctx, err):
			return fmt.Errorf("cannot read the log of attempt %s: %w", h.Attempt, err)
		case err != nil:
			r.cfg.Log.Warn("reading a log was interrupted", "attempt", h.Attempt, "err", err)
		}
		if final {
			continue
		}
		if at.total > before {
			pause = backoff{}
		}
		if err := pause.wait(ctx); err != nil {
			return err
		}
	}
}

// readSome reads once, and does not let a follow hang when the container has
// ended.
func (r *Runtime) readSome(ctx context.Context, h runtime.Handle, id string, at *place, follow bool, sink runtime.Sink) error {
	within, cancel := context.WithCancel(ctx)
	defer cancel()
	if follow {
		defer context.AfterFunc(r.memo(h.Attempt).ended, func() { time.AfterFunc(followGrace, cancel) })()
	}
	err := r.read(within, id, at, follow, sink)
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		return nil
	}
	return err
}

// ended tells whether the container will write no more.
func (r *Runtime) ended(ctx context.Context, id string) (bool, error) {
	c, err := r.api.ContainerInspect(ctx, id)
	if err != nil || c.State == nil {
		return false, err
	}
	if c.State.Status == container.StateCreated {
		return unstartable(c), nil
	}
	return !c.State.Running, nil
}

// read hands over the records behind at, and moves it.
func (r *Runtime) read(ctx context.Context, id string, at *place, follow bool, sink runtime.Sink) (err error) {
	body, err := r.api.ContainerLogs(ctx, id, container.LogsOptions{
		ShowStdout: true, ShowStderr: true, Timestamps: true, Follow: follow, Since: at.since(),
	})
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	skip := at.rewind()
	in := bufio.NewReaderSize(body, 64<<10)
	for buf := []byte(nil); ; {
		rec, next, err := readFrame(in, buf)
		if errors.Is(err, io.EOF) {
			if skip > 0 && follow {
				// It ended before it came to where we were.
				at.total += skip
				at.seen += skip
			}
			return nil
		}
		if err != nil {
			return err
		}
		buf = next
		at.pass(rec.Time.UnixNano())
		if skip > 0 {
			skip--
			continue
		}
		rec.Cursor = at.cursor()
		if err := sink.Write(rec); err != nil {
			return sinkError{err}
		}
	}
}

// readFrame reads one record of the multiplexed stream: 1 byte of stream, 3
// bytes of nothing, 4 bytes of length, then the time, a space and the data. A
// line that was split ends without a newline.
func readFrame(in io.Reader, buf []byte) (runtime.Record, []byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF // cut by an engine that went away
		}
		return runtime.Record{}, buf, err
	}
	size := int(binary.BigEndian.Uint32(head[4:]))
	if size > maxFrame {
		return runtime.Record{}, buf, fmt.Errorf("the engine sent a log record of %d bytes", size)
	}
	if cap(buf) < size {
		buf = make([]byte, max(size, runtime.MaxRecord+64))
	}
	data := buf[:size]
	if _, err := io.ReadFull(in, data); err != nil {
		return runtime.Record{}, buf, io.EOF
	}
	if head[0] > 2 {
		return runtime.Record{}, buf, fmt.Errorf("the engine cannot read the log: %s", data)
	}
	stamp, data, ok := bytes.Cut(data, []byte(" "))
	if !ok {
		return runtime.Record{}, buf, fmt.Errorf("the engine sent a log record without a time: %q", stamp)
	}
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return runtime.Record{}, buf, fmt.Errorf("the engine sent a log record with a wrong time: %w", err)
	}
	line, whole := bytes.CutSuffix(data, []byte("\n"))
	return runtime.Record{Time: at, Stderr: head[0] == 2, Partial: !whole, Data: line}, buf, nil
}
