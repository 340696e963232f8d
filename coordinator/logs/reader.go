// Package logs reads what attempts leave behind: log records, wherever they
// are at the moment, final states and artifacts.
package logs

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/logpath"
	"github.com/slipway-ci/slipway/shared/objectstore"
)

const (
	// maxPageBytes bounds the data of one page, whatever its records weigh. A
	// page has at least one record, so that every reader gets on.
	maxPageBytes = 2 << 20
	// pollStored is how often the bucket is asked for news of an attempt whose
	// agent does not answer. The agent writes a chunk every 2 s at most.
	pollStored = time.Second
)

// Tailer reads records of an attempt from the agent that runs it: those from
// record number from on, waiting for the first at most wait. End means that
// the log is over and next is its length.
type Tailer interface {
	Tail(ctx context.Context, attempt ci.AttemptID, from int64, limit int, wait time.Duration) (records []logpath.Record, next int64, end bool, err error)
}

// Config is what a Reader needs.
type Config struct {
	Bucket objectstore.Bucket
	Tailer Tailer
	Log    *slog.Logger
}

// Reader reads logs. It is safe for concurrent use.
type Reader struct {
	cfg    Config
	chunks chunkCache
}

// New returns a reader.
func New(cfg Config) *Reader { return &Reader{cfg: cfg} }

// Log names one attempt's log.
type Log struct {
	Path    logpath.Path
	Attempt ci.AttemptID
	// Over tells whether the attempt is over by now, so that everything there
	// will ever be is in the bucket. It is asked again while a call waits.
	Over func() bool
}

// Query says which part to read. A cursor is a record number: how many records
// the caller has seen.
type Query struct {
	From  int64
	Tail  int           // begin this many records before the end instead of at From
	Limit int           // records; at least 1
	Wait  time.Duration // for a first record, when there is none yet
}

// Page is a part of a log.
type Page struct {
	Records []logpath.Record
	Next    int64 // the cursor behind the last record
	End     bool  // no more will come
}

// Read returns a part of a log: from the agent while the attempt lives, else
// from the bucket. Record numbers are the same in both, so a caller that passes
// Next on sees neither gap nor repetition when the source changes.
func (r *Reader) Read(ctx context.Context, l Log, q Query) (Page, error) {
	deadline := time.Now().Add(q.Wait)
	if q.Tail > 0 {
		from, err := r.tailStart(ctx, l, q.Tail)
		if err != nil {
			return Page{}, err
		}
		q.From = from
	}
	for {
		page, err := r.once(ctx, l, q, max(0, time.Until(deadline)))
		left := time.Until(deadline)
		if err == nil && (len(page.Records) > 0 || page.End) || ctx.Err() != nil || left <= 0 {
			return page, err
		}
		select {
		case <-ctx.Done():
			return Page{}, ci.Errorf(ci.Canceled, "stopped waiting for the log of attempt %s: %w", l.Attempt, ctx.Err())
		case <-time.After(min(left, pollStored)):
		}
	}
}

// once asks each source at most once.
func (r *Reader) once(ctx context.Context, l Log, q Query, wait time.Duration) (Page, error) {
	over := l.Over()
	if !over {
		records, next, end, err := r.cfg.Tailer.Tail(ctx, l.Attempt, q.From, q.Limit, wait)
		if err == nil {
			return Page{records, next, end}, nil
		}
		if ctx.Err() != nil {
			return Page{}, ci.Errorf(ci.Canceled, "stopped reading the log of attempt %s: %w", l.Attempt, ctx.Err())
		}
		r.cfg.Log.DebugContext(ctx, "agent gave no log, reading the bucket", "attempt", l.Attempt, "error", err)
		// It may have ended meanwhile, which is why the agent has nothing left.
		over = l.Over()
	}
	s, err := r.stored(ctx, l.Path, q.From, q.Limit)
	if err != nil {
		return Page{}, err
	}
	end := s.drained && (over || s.complete)
	return Page{s.records, q.From + int64(len(s.records)), end}, nil
}

// tailStart finds the record number that lies n records before the end as it
// is now.
func (r *Reader) tailStart(ctx context.Context, l Log, n int) (int64, error) {
	index, err := r.index(ctx, l.Path)
	if err != nil && ci.KindOf(err) != ci.NotFound {
		return 0, err
	}
	// The index may lag by seconds: walk from there to the end.
	at := index.Lines
	for !index.Complete {
		page, err := r.once(ctx, l, Query{From: at, Limit: tailPage}, 0)
		if err != nil {
			return 0, err
		}
		at = page.Next
		if page.End || len(page.Records) == 0 {
			break
		}
	}
	return max(0, at-int64(n)), nil
}

// tailPage is the page of the walk to the end; maxPageBytes bounds it too.
const tailPage = 10_000

// Status reads an attempt's final status from the bucket; false when there is
// none, which is so until logs and artifacts are whole.
func (r *Reader) Status(ctx context.Context, p logpath.Path) (logpath.Status, bool, error) {
	var s logpath.Status
	err := r.getJSON(ctx, p.Status(), &s)
	switch {
	case err == nil:
		return s, true, nil
	case ci.KindOf(err) == ci.NotFound:
		return s, false, nil
	default:
		return s, false, err
	}
}

// ArtifactURL returns an address at which an artifact can be fetched for ttl.
func (r *Reader) ArtifactURL(ctx context.Context, p logpath.Path, name string, ttl time.Duration) (string, error) {
	key := p.Artifact(name)
	if _, err := r.cfg.Bucket.Stat(ctx, key); err != nil {
		if ci.KindOf(err) == ci.NotFound {
			return "", ci.Errorf(ci.NotFound, "artifact %s is not in the bucket any more: %w", name, err)
		}
		return "", err
	}
	return r.cfg.Bucket.URL(ctx, key, ttl)
}

// errCut is a chunk that ends before its zstd stream or line does.
var errCut = errors.New("it is cut off")
