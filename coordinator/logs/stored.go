package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/logpath"
)

const (
	maxObject = 16 << 20 // of an index or a status, in bytes
	maxChunk  = 64 << 20 // of a chunk's text: far more than an agent writes
)

// stored is a part of a log that is in the bucket.
type stored struct {
	records  []logpath.Record
	complete bool // the index says that no chunk will follow
	drained  bool // nothing more is in the bucket at the moment
}

// stored reads records from record number from on. Chunks that lie behind the
// index, which is written seconds apart, are found by their numbers.
func (r *Reader) stored(ctx context.Context, p logpath.Path, from int64, limit int) (stored, error) {
	index, err := r.index(ctx, p)
	if err != nil && ci.KindOf(err) != ci.NotFound {
		return stored{}, err
	}
	out := stored{complete: index.Complete}
	room := maxPageBytes
	take := func(c *chunk, first int64) (full bool, err error) {
		for i := max(0, from+int64(len(out.records))-first); i < int64(c.len()); i++ {
			if len(out.records) >= limit || room <= 0 && len(out.records) > 0 {
				return true, nil
			}
			rec, err := logpath.ParseRecord(c.line(int(i)))
			if err != nil {
				return false, err
			}
			out.records = append(out.records, rec)
			room -= len(rec.Data)
		}
		return false, nil
	}
	for i := index.Find(from); i < len(index.Chunks); i++ {
		c, err := r.chunk(ctx, p, index.Chunks[i].N)
		if err != nil {
			return out, err
		}
		if full, err := take(c, index.Chunks[i].Line); full || err != nil {
			return out, err
		}
	}
	n, line := 1, int64(0)
	if k := len(index.Chunks); k > 0 {
		n, line = index.Chunks[k-1].N+1, index.Chunks[k-1].Line+index.Chunks[k-1].Lines
	}
	for ; !index.Complete; n++ {
		c, err := r.chunk(ctx, p, n)
		if ci.KindOf(err) == ci.NotFound {
			break
		}
		if err != nil {
			return out, err
		}
		if full, err := take(c, line); full || err != nil {
			return out, err
		}
		line += int64(c.len())
	}
	out.drained = true
	return out, nil
}

func (r *Reader) index(ctx context.Context, p logpath.Path) (logpath.Index, error) {
	var x logpath.Index
	err := r.getJSON(ctx, p.Index(), &x)
	return x, err
}

func (r *Reader) getJSON(ctx context.Context, key string, into any) error {
	body, err := r.cfg.Bucket.Get(ctx, key, 0, maxObject+1)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	data, err := io.ReadAll(io.LimitReader(body, maxObject+1))
	if err != nil {
		return ci.Errorf(ci.Unavailable, "cannot read %s: %w", key, err)
	}
	if len(data) > maxObject {
		return ci.Errorf(ci.Internal, "cannot use %s: it is larger than %d bytes", key, maxObject)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return ci.Errorf(ci.Internal, "cannot use %s: %w", key, err)
	}
	return nil
}

// chunk returns the chunk with number n; ci.NotFound when there is none.
func (r *Reader) chunk(ctx context.Context, p logpath.Path, n int) (*chunk, error) {
	key := p.Chunk(n)
	if c := r.chunks.get(key); c != nil {
		return c, nil
	}
	body, err := r.cfg.Bucket.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	plain, err := zstd.NewReader(body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxChunk))
	if err != nil {
		return nil, ci.Errorf(ci.Internal, "cannot unpack %s: %w", key, err)
	}
	defer plain.Close()
	text, err := io.ReadAll(io.LimitReader(plain, maxChunk+1))
	if err != nil {
		return nil, ci.Errorf(ci.Unavailable, "cannot read %s: %w", key, err)
	}
	if len(text) > maxChunk {
		return nil, ci.Errorf(ci.Internal, "cannot use %s: it holds more than %d bytes", key, maxChunk)
	}
	c, err := newChunk(text)
	if err != nil {
		return nil, ci.Errorf(ci.Internal, "cannot use %s: %w", key, err)
	}
	r.chunks.put(key, c)
	return c, nil
}

// chunk is the text of a chunk and where its lines begin.
type chunk struct {
	text   []byte
	starts []int32
}

func newChunk(text []byte) (*chunk, error) {
	c := &chunk{text: text, starts: make([]int32, 0, bytes.Count(text, []byte{'\n'}))}
	for at := 0; at < len(text); {
		n := bytes.IndexByte(text[at:], '\n')
		if n < 0 {
			return nil, errCut
		}
		c.starts = append(c.starts, int32(at))
		at += n + 1
	}
	return c, nil
}

func (c *chunk) len() int { return len(c.starts) }

func (c *chunk) line(i int) []byte {
	end := len(c.text)
	if i+1 < len(c.starts) {
		end = int(c.starts[i+1])
	}
	return c.text[c.starts[i]:end]
}

func (c *chunk) size() int { return len(c.text) + 4*len(c.starts) }
