// Package logship brings what a step leaves behind to the bucket: its log in
// chunks, its artifacts, its status. Everything waits on the agent's disk until
// the bucket has it, so that an outage of the store costs nothing but time.
package logship

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/logpath"
	"github.com/slipway-ci/slipway/shared/objectstore"
)

// Bucket is what a Shipper needs of the object store.
type Bucket interface {
	Put(ctx context.Context, key string, r io.Reader, size int64, opt objectstore.PutOptions) (etag string, err error)
	Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error)
}

// Config is what a Shipper is made of.
type Config struct {
	Bucket Bucket
	Log    *slog.Logger
	// MaxLog bounds the text of one log in bytes; what comes after is left out
	// and the log marked truncated. Default 1 GiB.
	MaxLog int64
	// Uploads is how many objects may be on their way at once; it bounds
	// memory, since a chunk is held compressed until the store has it. Default 4.
	Uploads int
}

// Shipper opens the logs of attempts and uploads what belongs to them. It is
// safe for concurrent use.
type Shipper struct {
	bucket Bucket
	log    *slog.Logger
	maxLog int64
	slots  chan struct{}
	zips   sync.Pool

	mu   sync.Mutex
	logs map[ci.AttemptID]*Log
}

// New returns a Shipper without logs.
func New(cfg Config) *Shipper {
	if cfg.MaxLog <= 0 {
		cfg.MaxLog = 1 << 30
	}
	if cfg.Uploads <= 0 {
		cfg.Uploads = 4
	}
	s := &Shipper{
		bucket: cfg.Bucket, log: cfg.Log, maxLog: cfg.MaxLog,
		slots: make(chan struct{}, cfg.Uploads), logs: map[ci.AttemptID]*Log{},
	}
	s.zips.New = func() any {
		// One worker and a small window: five floods at once stay flat, and no
		// goroutine of the library outlives a chunk.
		z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true),
			zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(512<<10))
		if err != nil {
			panic("zstd refuses fixed options: " + err.Error())
		}
		return z
	}
	return s
}

// Open opens the log of an attempt in the folder dir, which it makes when it
// is not there; a log that is there is taken up where its last whole batch ends.
// The caller runs Log.Run and calls Log.Close.
func (s *Shipper) Open(attempt ci.AttemptID, dir string, path logpath.Path) (*Log, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.logs[attempt] != nil {
		return nil, ci.Errorf(ci.Conflict, "cannot open the log of attempt %s: it is open", attempt)
	}
	l, err := openLog(s, dir, path)
	if err != nil {
		return nil, err
	}
	l.attempt = attempt
	s.logs[attempt] = l
	return l, nil
}

// Tail reads up to limit records of an attempt's log from record number from
// on. It waits up to wait for the first. Next is the number to ask for then;
// end says that the log is over and next is behind its last record. An attempt
// whose log is not here is ci.NotFound: the bucket has it.
func (s *Shipper) Tail(ctx context.Context, attempt ci.AttemptID, from int64, limit int, wait time.Duration) (records []logpath.Record, next int64, end bool, err error) {
	s.mu.Lock()
	l := s.logs[attempt]
	s.mu.Unlock()
	if l == nil {
		return nil, from, false, ci.Errorf(ci.NotFound, "this agent has no log of attempt %s: read it from the bucket", attempt)
	}
	return l.tail(ctx, from, limit, wait)
}

func (s *Shipper) forget(l *Log) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.logs[l.attempt] == l {
		delete(s.logs, l.attempt)
	}
}
