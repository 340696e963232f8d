package logship

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/slipway-ci/slipway/shared/logpath"
	"github.com/slipway-ci/slipway/shared/objectstore"
)

const (
	// A chunk closes at minChunk bytes of NDJSON or chunkAge; while chunks
	// fill before their age the next may be twice as large, up to maxChunk.
	minChunk = 256 << 10
	maxChunk = 8 << 20
	chunkAge = 2 * time.Second
	indexAge = 10 * time.Second
)

// shipped is what the bucket has. It is kept on disk beside the spool, one line
// a chunk, so that a restart goes on behind the last chunk.
type shipped struct {
	index  logpath.Index
	offset int64 // in the spool
}

type shippedLine struct {
	logpath.Chunk
	Offset int64 `json:"offset"` // in the spool, behind the chunk
}

func (s *shipped) add(line shippedLine) {
	s.index.Chunks = append(s.index.Chunks, line.Chunk)
	s.index.Lines = line.Line + line.Lines
	s.index.Bytes = line.Byte + line.Bytes
	s.offset = line.Offset
}

// loadShipped reads the chunk list. A torn last line means a chunk that is put
// again; chunks behind the spool's end belong to a spool that lost its end, and
// are put again as well.
func loadShipped(dir string, spool int64) (shipped, error) {
	name := filepath.Join(dir, "chunks")
	data, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return shipped{}, fmt.Errorf("cannot read the list of log chunks: %w", err)
	}
	var s shipped
	good := 0
	for {
		line, _, ok := bytes.Cut(data[good:], []byte("\n"))
		var c shippedLine
		if !ok || json.Unmarshal(line, &c) != nil || c.Offset > spool {
			break
		}
		s.add(c)
		good += len(line) + 1
	}
	if good < len(data) {
		if err := os.Truncate(name, int64(good)); err != nil {
			return shipped{}, fmt.Errorf("cannot mend the list of log chunks: %w", err)
		}
	}
	return s, nil
}

func (l *Log) shipLoop(ctx context.Context) error {
	list, err := os.OpenFile(filepath.Join(l.dir, "chunks"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("cannot open the list of log chunks: %w", err)
	}
	defer func() { _ = list.Close() }() // every line was written already
	target, since, indexed := int64(minChunk), l.clock(), l.clock()
	stale := false // the index in the bucket lacks a chunk
	for {
		l.mu.Lock()
		waiting, sealed, changed := l.size-l.shipped.offset, l.sealed, l.changed
		l.mu.Unlock()
		now := l.clock()
		if waiting == 0 {
			since = now // nothing waits, so nothing ages
		}
		switch {
		case sealed && waiting == 0:
			if err := l.putIndex(ctx, true); err != nil {
				return err
			}
			close(l.whole)
			return nil
		case sealed || waiting >= target || waiting > 0 && now.Sub(since) >= chunkAge:
			if err := l.putChunk(ctx, list, maxChunk); err != nil {
				return err
			}
			if waiting >= target {
				target = min(2*target, maxChunk)
			} else {
				target = max(target/2, minChunk)
			}
			since, stale = l.clock(), true
			continue
		case stale && now.Sub(indexed) >= indexAge:
			if err := l.putIndex(ctx, false); err != nil {
				return err
			}
			indexed, stale = l.clock(), false
			continue
		}
		if err := l.sleep(ctx, changed, waiting > 0, since.Add(chunkAge).Sub(now), stale, indexed.Add(indexAge).Sub(now)); err != nil {
			return err
		}
	}
}

// sleep waits for a change of the log or for whichever of two deadlines counts.
func (l *Log) sleep(ctx context.Context, changed <-chan struct{}, aging bool, age time.Duration, stale bool, index time.Duration) error {
	var deadline <-chan time.Time
	if aging || stale {
		d := max(age, index)
		if aging {
			d = min(d, age)
		}
		if stale {
			d = min(d, index)
		}
		timer := time.NewTimer(d)
		defer timer.Stop()
		deadline = timer.C
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-changed:
	case <-deadline:
	}
	return nil
}

// putChunk ships the next whole batches of the spool, at most about limit bytes.
func (l *Log) putChunk(ctx context.Context, list *os.File, limit int64) error {
	select {
	case l.ship.slots <- struct{}{}:
		defer func() { <-l.ship.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	l.mu.Lock()
	from, end := l.shipped.offset, l.size
	c := shippedLine{Chunk: logpath.Chunk{N: len(l.shipped.index.Chunks) + 1, Line: l.shipped.index.Lines, Byte: l.shipped.index.Bytes}, Offset: from}
	l.mu.Unlock()
	data, err := l.zip(&c, from, end, limit)
	if err != nil {
		return err
	}
	if err := l.ship.putForever(ctx, l.path.Chunk(c.N), data, objectstore.PutOptions{ContentType: "application/zstd"}); err != nil {
		return err
	}
	line, err := json.Marshal(c)
	if err == nil {
		_, err = list.Write(append(line, '\n'))
	}
	if err != nil {
		// Not fatal: a restart would put this chunk once more under its number.
		l.ship.log.Warn("cannot note a log chunk", "attempt", l.attempt, "chunk", c.N, "error", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shipped.add(c)
	return nil
}

// zip compresses the records of whole batches and completes c by their trailer.
func (l *Log) zip(c *shippedLine, from, end, limit int64) ([]byte, error) {
	var out bytes.Buffer
	z := l.ship.zips.Get().(*zstd.Encoder)
	defer l.ship.zips.Put(z)
	z.Reset(&out)
	err := scan(l.file, from, end, func(line []byte, behind int64) (bool, error) {
		if !bytes.HasPrefix(line, trailerStart) {
			if c.Time.IsZero() {
				first, err := logpath.ParseRecord(line)
				if err != nil {
					return false, err
				}
				c.Time = first.Time
			}
			_, err := z.Write(line)
			return true, err
		}
		var t trailer
		if err := json.Unmarshal(line, &t); err != nil {
			return false, fmt.Errorf("cannot read log spool at byte %d: %w", behind, err)
		}
		c.Lines, c.Bytes, c.Offset = t.Lines-c.Line, t.Bytes-c.Byte, behind
		return behind-from < limit, nil
	})
	if err := errors.Join(err, z.Close()); err != nil {
		return nil, fmt.Errorf("cannot make log chunk %d of %s: %w", c.N, l.path, err)
	}
	return out.Bytes(), nil
}

func (l *Log) putIndex(ctx context.Context, complete bool) error {
	l.mu.Lock()
	x := l.shipped.index
	x.Truncated = l.last.Cut
	if complete {
		x.Complete, x.SHA256 = true, l.sum.SHA256()
	}
	data, err := json.Marshal(x)
	l.mu.Unlock()
	if err != nil {
		return fmt.Errorf("cannot write a log index: %w", err)
	}
	return l.ship.putForever(ctx, l.path.Index(), data, objectstore.PutOptions{ContentType: "application/json"})
}
