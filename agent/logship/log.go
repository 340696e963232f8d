package logship

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/logpath"
)

const (
	// A batch goes to disk when it is this large or this old, whichever is
	// first: few writes under load, and a line is seen at once when idle.
	batchBytes = 64 << 10
	batchAge   = 25 * time.Millisecond
)

// Log is the log of one attempt: a runtime.Sink that writes to the spool, and a
// loop that ships the spool. Its methods may be called from many goroutines.
//
//	records --Write, Say--> batch --64 KiB or 25 ms--> spool --256 KiB or 2 s--> chunks
//	                                                     +--> Tail
type Log struct {
	ship    *Shipper
	attempt ci.AttemptID
	dir     string
	path    logpath.Path
	file    *os.File

	mu      sync.Mutex
	batch   []byte        // records that are not on disk yet
	last    trailer       // as of the last record, on disk or not
	size    int64         // of the spool on disk
	lines   int64         // records on disk
	sum     logpath.Sum   // of every record
	marks   []mark        // sparse, ascending
	left    int64         // records left out since the log was full
	sealed  bool          // nothing more comes
	failed  error         // the disk refused; sticky
	changed chan struct{} // closed and replaced when anything above changes
	dirty   chan struct{} // capacity 1: a batch has begun
	shipped shipped       // owned by the ship loop, read under mu
	whole   chan struct{} // closed once everything is in the bucket
	clock   func() time.Time
}

var _ runtime.Sink = (*Log)(nil)

func openLog(s *Shipper, dir string, path logpath.Path) (*Log, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make log folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "spool"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open log spool: %w", err)
	}
	rec, err := recoverSpool(f)
	if err == nil && rec.size > 0 {
		s.log.Debug("log taken up again", "path", path.String(), "records", rec.last.Lines)
	}
	var done shipped
	if err == nil {
		done, err = loadShipped(dir, rec.size)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Log{
		ship: s, dir: dir, path: path, file: f,
		last: rec.last, size: rec.size, lines: rec.last.Lines, sum: rec.sum, marks: rec.marks,
		changed: make(chan struct{}), dirty: make(chan struct{}, 1), whole: make(chan struct{}),
		shipped: done, clock: time.Now,
	}, nil
}

// Cursor returns the runtime's place just behind the last record taken.
func (l *Log) Cursor() runtime.Cursor {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last.Cursor
}

// Write takes a record of the runtime. It fails when the disk does, and then
// always.
func (l *Log) Write(r runtime.Record) error {
	stream := logpath.Stdout
	if r.Stderr {
		stream = logpath.Stderr
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.add(logpath.Record{Time: r.Time, Stream: stream, Data: r.Data, Partial: r.Partial}, r.Cursor)
}

// Say adds a line of the agent's own to the log. A line that the disk refuses
// is lost; the next Write says why.
func (l *Log) Say(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := logpath.Record{Time: l.clock(), Stream: logpath.System, Data: fmt.Appendf(nil, format, args...)}
	if err := l.add(r, l.last.Cursor); err != nil {
		l.ship.log.Warn("cannot add to log", "attempt", l.attempt, "line", string(r.Data), "error", err)
	}
}

// add appends a record to the batch; the caller holds mu.
func (l *Log) add(r logpath.Record, behind runtime.Cursor) error {
	switch {
	case l.failed != nil:
		return l.failed
	case l.sealed:
		return ci.Errorf(ci.Internal, "log of attempt %s has ended", l.attempt)
	}
	if r.Stream != logpath.System && l.sum.Bytes+int64(len(r.Data)) > l.ship.maxLog {
		l.left++
		if l.last.Cut {
			l.last.Cursor = behind
			return nil
		}
		l.last.Cut = true
		r = logpath.Record{
			Time: r.Time, Stream: logpath.System,
			Data: fmt.Appendf(nil, "the log has reached its limit of %d bytes: what follows is left out", l.ship.maxLog),
		}
	}
	l.batch = logpath.AppendRecord(l.batch, r)
	l.sum.Add(r)
	l.last.Cursor, l.last.Lines, l.last.Bytes = behind, l.sum.Lines, l.sum.Bytes
	if len(l.batch) >= batchBytes {
		return l.flush()
	}
	select {
	case l.dirty <- struct{}{}:
	default: // the flush loop knows
	}
	return nil
}

// flush writes the batch and its trailer; the caller holds mu.
func (l *Log) flush() error {
	if l.failed != nil || len(l.batch) == 0 {
		return l.failed
	}
	data, err := appendTrailer(l.batch, l.last)
	if err == nil {
		_, err = l.file.WriteAt(data, l.size)
	}
	if err != nil {
		// The half-written batch has no trailer; the next opening cuts it off.
		l.failed = fmt.Errorf("cannot write log spool: %w", err)
		l.wake()
		return l.failed
	}
	l.size += int64(len(data))
	l.lines = l.last.Lines
	if l.size-l.marks[len(l.marks)-1].offset >= markEvery {
		l.marks = append(l.marks, mark{l.lines, l.size})
	}
	l.batch = data[:0]
	l.wake()
	return nil
}

// wake lets everybody who waits for a change look again; the caller holds mu.
func (l *Log) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// Manifest writes out what is still in memory and sums up the log so far.
func (l *Log) Manifest() (ci.LogManifest, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.flush()
	return l.sum.Manifest(len(l.shipped.index.Chunks), l.last.Cut), err
}

// Finish ends the log, waits until all of it is in the bucket, index included,
// and returns its manifest. It waits as long as the store is away. When the
// agent's own disk has lost a part, the manifest says truncated.
func (l *Log) Finish(ctx context.Context) (ci.LogManifest, error) {
	l.seal()
	select {
	case <-l.whole:
		m, _ := l.Manifest() // its error is in Truncated by now
		return m, nil
	case <-ctx.Done():
		return ci.LogManifest{}, fmt.Errorf("cannot finish the log of attempt %s: %w", l.attempt, context.Cause(ctx))
	}
}

func (l *Log) seal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sealed {
		return
	}
	if l.left > 0 {
		r := logpath.Record{Time: l.clock(), Stream: logpath.System, Data: fmt.Appendf(nil, "%d records were left out", l.left)}
		_ = l.add(r, l.last.Cursor) // sticky: what counts is seen below
	}
	if err := l.flush(); err != nil {
		l.ship.log.Error("the end of a log is lost", "attempt", l.attempt, "error", err)
		l.last.Cut = true
	}
	l.sealed = true
	l.wake()
}

// Run writes and ships the log until all of it is in the bucket or ctx ends.
func (l *Log) Run(ctx context.Context) error {
	var g lifecycle.Group
	g.Add("flush", l.flushLoop)
	g.Add("ship", l.shipLoop)
	err := g.Run(ctx)
	if err == nil || ctx.Err() != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed, l.last.Cut = errors.Join(l.failed, err), true
	close(l.whole) // nobody may wait for what will not come
	return err
}

// Close forgets the log; its folder stays. Run must have returned.
func (l *Log) Close() error {
	l.ship.forget(l)
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.flush()
	l.sealed = true
	l.wake()
	return errors.Join(err, l.file.Close())
}

func (l *Log) flushLoop(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
		case <-l.whole:
			return nil
		case <-l.dirty:
			select {
			case <-ctx.Done():
			case <-time.After(batchAge):
			}
		}
		l.mu.Lock()
		_ = l.flush() // sticky: Write and Finish tell
		l.mu.Unlock()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}
