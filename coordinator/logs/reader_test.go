package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/logpath"
	"github.com/slipway-ci/slipway/shared/needs"
	"github.com/slipway-ci/slipway/shared/objectstore"
	"github.com/slipway-ci/slipway/shared/objectstore/objectstoretest"
)

func TestMain(m *testing.M) { needs.NoLeaks(m) }

// bed is a log of which the agent holds everything and the bucket what was
// shipped.
type bed struct {
	t       *testing.T
	bucket  *objectstoretest.Fake
	reader  *Reader
	log     Log
	over    atomic.Bool
	all     []logpath.Record
	index   logpath.Index
	shipped int

	agentDown bool
	agentDone bool // the log is over at the agent
	tailed    int
}

func newBed(t *testing.T, lines int) *bed {
	b := &bed{t: t, bucket: objectstoretest.Memory()}
	for i := range lines {
		b.all = append(b.all, logpath.Record{Time: time.Unix(int64(i), 0), Stream: logpath.Stdout, Data: fmt.Appendf(nil, "line %d", i)})
	}
	b.reader = New(Config{Bucket: b.bucket, Tailer: b, Log: slog.New(slog.DiscardHandler)})
	b.log = Log{Path: logpath.New("s3://b/p/c1", "default", "r1", "build", 1, 7), Attempt: "a1", Over: b.over.Load}
	return b
}

// Tail is the agent's side.
func (b *bed) Tail(_ context.Context, a ci.AttemptID, from int64, limit int, wait time.Duration) ([]logpath.Record, int64, bool, error) {
	b.tailed++
	if a != "a1" {
		b.t.Errorf("asked for attempt %s", a)
	}
	if b.agentDown {
		return nil, 0, false, ci.Errorf(ci.Unavailable, "no agent")
	}
	if from >= int64(len(b.all)) {
		if !b.agentDone {
			time.Sleep(wait)
		}
		return nil, from, b.agentDone, nil
	}
	to := min(from+int64(limit), int64(len(b.all)))
	return b.all[from:to], to, b.agentDone && to == int64(len(b.all)), nil
}

// ship puts the next n records into one chunk, and the index if wanted.
func (b *bed) ship(n int, index bool) {
	var text []byte
	for _, r := range b.all[b.shipped : b.shipped+n] {
		text = logpath.AppendRecord(text, r)
	}
	enc, _ := zstd.NewWriter(nil)
	number := len(b.index.Chunks) + 1
	b.put(b.log.Path.Chunk(number), enc.EncodeAll(text, nil))
	b.index.Chunks = append(b.index.Chunks, logpath.Chunk{N: number, Line: int64(b.shipped), Lines: int64(n)})
	b.shipped += n
	b.index.Lines = int64(b.shipped)
	if index {
		b.putIndex()
	}
}

func (b *bed) putIndex() {
	data, err := json.Marshal(b.index)
	if err != nil {
		b.t.Fatal(err)
	}
	b.put(b.log.Path.Index(), data)
}

func (b *bed) put(key string, data []byte) {
	if _, err := b.bucket.Put(b.t.Context(), key, bytes.NewReader(data), int64(len(data)), objectstore.PutOptions{}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) read(q Query) Page {
	b.t.Helper()
	p, err := b.reader.Read(b.t.Context(), b.log, q)
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

// text renders a page as "first-last next end".
func (p Page) text() string {
	s := "none"
	if n := len(p.Records); n > 0 {
		s = strings.TrimPrefix(string(p.Records[0].Data), "line ") + "-" + strings.TrimPrefix(string(p.Records[n-1].Data), "line ")
	}
	return fmt.Sprintf("%s next %d end %t", s, p.Next, p.End)
}

func (b *bed) want(q Query, want string) {
	b.t.Helper()
	if got := b.read(q).text(); got != want {
		b.t.Errorf("read %+v: got %s, want %s", q, got, want)
	}
}

func TestFinishedLog(t *testing.T) {
	t.Parallel()
	b := newBed(t, 25)
	b.ship(10, false)
	b.ship(10, false)
	b.ship(5, false)
	b.index.Complete = true
	b.putIndex()
	b.over.Store(true)
	b.want(Query{Limit: 1000}, "0-24 next 25 end true")
	b.want(Query{Limit: 7}, "0-6 next 7 end false")
	b.want(Query{From: 7, Limit: 10}, "7-16 next 17 end false")
	b.want(Query{From: 10, Limit: 10}, "10-19 next 20 end false")
	b.want(Query{From: 20, Limit: 5}, "20-24 next 25 end true")
	b.want(Query{From: 25, Limit: 5}, "none next 25 end true")
	b.want(Query{From: 99, Limit: 5}, "none next 99 end true")
	b.want(Query{Tail: 4, Limit: 100}, "21-24 next 25 end true")
	b.want(Query{Tail: 400, Limit: 100}, "0-24 next 25 end true")
	if b.tailed > 0 {
		t.Error("the agent was asked about an attempt that is over")
	}
}

// An attempt that was lost leaves chunks behind the last index, or no index.
func TestChunksBehindTheIndex(t *testing.T) {
	t.Parallel()
	b := newBed(t, 30)
	b.ship(10, false)
	b.over.Store(true)
	b.want(Query{Limit: 100}, "0-9 next 10 end true")
	b.ship(10, true)
	b.ship(10, false)
	b.want(Query{Limit: 100}, "0-29 next 30 end true")
	b.want(Query{From: 25, Limit: 100}, "25-29 next 30 end true")
	b.want(Query{Limit: 20}, "0-19 next 20 end false")
	b.want(Query{Tail: 3, Limit: 20}, "27-29 next 30 end true")
}

func TestNothingShipped(t *testing.T) {
	t.Parallel()
	b := newBed(t, 3)
	b.over.Store(true)
	b.want(Query{Limit: 100}, "none next 0 end true")
	b.want(Query{Tail: 5, Limit: 100}, "none next 0 end true")
	b.bucket.Down(true)
	if _, err := b.reader.Read(t.Context(), b.log, Query{Limit: 1}); ci.KindOf(err) != ci.Unavailable {
		t.Errorf("bucket down: got %v", err)
	}
}

func TestLiveLog(t *testing.T) {
	t.Parallel()
	b := newBed(t, 30)
	b.ship(10, true)
	b.want(Query{Limit: 20}, "0-19 next 20 end false")
	b.want(Query{From: 20, Limit: 20}, "20-29 next 30 end false")
	b.want(Query{Tail: 4, Limit: 20}, "26-29 next 30 end false")
	b.agentDone = true
	b.want(Query{From: 20, Limit: 20}, "20-29 next 30 end true")
	b.want(Query{Tail: 2, Limit: 20}, "28-29 next 30 end true")
}

// The reader follows from the agent to the bucket and misses and repeats nothing.
func TestFromAgentToBucket(t *testing.T) {
	t.Parallel()
	b := newBed(t, 100)
	var got []string
	cursor, end := int64(0), false
	for step := 0; !end; step++ {
		switch step {
		case 3: // agent gone, and the bucket is behind: nothing new, but no error
			b.agentDown = true
			b.ship(20, true)
			b.want(Query{From: cursor, Limit: 9}, fmt.Sprintf("none next %d end false", cursor))
			b.ship(40, false)
		case 6:
			b.ship(40, false)
			b.index.Complete = true
			b.putIndex()
			b.over.Store(true)
		}
		p := b.read(Query{From: cursor, Limit: 9})
		for _, r := range p.Records {
			got = append(got, string(r.Data))
		}
		cursor, end = p.Next, p.End
	}
	for i, line := range got {
		if line != fmt.Sprintf("line %d", i) {
			t.Fatalf("record %d is %q", i, line)
		}
	}
	if len(got) != 100 {
		t.Fatalf("got %d records", len(got))
	}
}

func TestWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, 10)
		start := time.Now()
		b.want(Query{From: 10, Limit: 5, Wait: 20 * time.Second}, "none next 10 end false")
		if d := time.Since(start); d != 20*time.Second {
			t.Errorf("a quiet agent was waited for %s", d)
		}
		// The agent is away: the bucket is asked again and again.
		b.agentDown = true
		b.ship(10, true)
		time.AfterFunc(3500*time.Millisecond, func() {
			b.all = append(b.all, logpath.Record{Time: time.Unix(1, 0), Stream: logpath.Stderr, Data: []byte("line 10")})
			b.ship(1, false)
		})
		start = time.Now()
		b.want(Query{From: 10, Limit: 5, Wait: 20 * time.Second}, "10-10 next 11 end false")
		if d := time.Since(start); d != 4*time.Second {
			t.Errorf("news in the bucket was found after %s", d)
		}
		// It ends while somebody waits.
		time.AfterFunc(2*time.Second, func() { b.over.Store(true) })
		start = time.Now()
		b.want(Query{From: 11, Limit: 5, Wait: 20 * time.Second}, "none next 11 end true")
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("the end was found after %s", d)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		b.over.Store(false)
		if _, err := b.reader.Read(ctx, b.log, Query{From: 11, Limit: 5, Wait: time.Minute}); ci.KindOf(err) != ci.Canceled {
			t.Errorf("caller went away: got %v", err)
		}
	})
}

func TestPageHasABound(t *testing.T) {
	t.Parallel()
	b := newBed(t, 0)
	for range 5 {
		b.all = append(b.all, logpath.Record{Time: time.Unix(1, 0), Stream: logpath.Stdout, Data: bytes.Repeat([]byte("x"), maxPageBytes-1)})
	}
	b.ship(5, true)
	b.over.Store(true)
	if p := b.read(Query{Limit: 100}); len(p.Records) != 2 || p.Next != 2 || p.End {
		t.Errorf("got %d records, next %d, end %t", len(p.Records), p.Next, p.End)
	}
}

func TestOddObjects(t *testing.T) {
	t.Parallel()
	b := newBed(t, 0)
	b.over.Store(true)
	for name, data := range map[string][]byte{
		"no zstd": []byte("hello"),
		"cut": func() []byte {
			enc, _ := zstd.NewWriter(nil)
			return enc.EncodeAll([]byte(`{"t":1,"s":"o","m":"no newline"}`), nil)
		}(),
		"no record": func() []byte { enc, _ := zstd.NewWriter(nil); return enc.EncodeAll([]byte("{}\n"), nil) }(),
	} {
		b.put(b.log.Path.Chunk(1), data)
		if _, err := b.reader.Read(t.Context(), b.log, Query{Limit: 1}); err == nil {
			t.Errorf("%s: no error", name)
		}
		b.reader.chunks = chunkCache{}
	}
	b.put(b.log.Path.Index(), []byte("{"))
	if _, err := b.reader.Read(t.Context(), b.log, Query{Limit: 1}); ci.KindOf(err) != ci.Internal {
		t.Errorf("broken index: %v", err)
	}
}

func TestStatusAndArtifact(t *testing.T) {
	t.Parallel()
	b := newBed(t, 0)
	if _, ok, err := b.reader.Status(t.Context(), b.log.Path); ok || err != nil {
		t.Errorf("no status: %t, %v", ok, err)
	}
	b.put(b.log.Path.Status(), []byte(`{"attempt":"a1","state":"succeeded"}`))
	if s, ok, err := b.reader.Status(t.Context(), b.log.Path); !ok || err != nil || s.State != "succeeded" {
		t.Errorf("status: %+v, %t, %v", s, ok, err)
	}
	if _, err := b.reader.ArtifactURL(t.Context(), b.log.Path, "x", time.Minute); ci.KindOf(err) != ci.NotFound {
		t.Errorf("no artifact: %v", err)
	}
	b.put(b.log.Path.Artifact("x"), []byte("data"))
	if u, err := b.reader.ArtifactURL(t.Context(), b.log.Path, "x", time.Minute); err != nil || u == "" {
		t.Errorf("artifact: %q, %v", u, err)
	}
	b.bucket.Down(true)
	if _, _, err := b.reader.Status(t.Context(), b.log.Path); ci.KindOf(err) != ci.Unavailable {
		t.Errorf("bucket down: %v", err)
	}
}

func TestChunkCacheStaysSmall(t *testing.T) {
	t.Parallel()
	var c chunkCache
	big := bytes.Repeat([]byte("x\n"), cacheBytes/8)
	for i := range 4 {
		ch, err := newChunk(big)
		if err != nil {
			t.Fatal(err)
		}
		c.put(fmt.Sprint(i), ch)
		if c.bytes > cacheBytes || len(c.order) != len(c.byKey) {
			t.Fatalf("%d bytes in %d of %d", c.bytes, len(c.order), len(c.byKey))
		}
		if c.get(fmt.Sprint(i)) == nil {
			t.Fatalf("chunk %d was dropped at once", i)
		}
	}
	if c.get("0") != nil {
		t.Error("the oldest chunk was kept")
	}
}
