package logship

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/logpath"
	"github.com/slipway-ci/slipway/shared/needs"
	"github.com/slipway-ci/slipway/shared/objectstore/objectstoretest"
)

func TestMain(m *testing.M) { needs.NoLeaks(m) }

var place = logpath.New("s3://b/c", "t", "r", "s", 1, 7)

func newShipper(t testing.TB, bucket Bucket) *Shipper {
	t.Helper()
	return New(Config{Bucket: bucket, Log: discard()})
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// start opens a log and runs it; the returned function stops and closes it, as
// a crash of the agent would.
func start(t testing.TB, s *Shipper, dir string) (*Log, func()) {
	t.Helper()
	l, err := s.Open("a1", dir, place)
	if err != nil {
		t.Fatal(err)
	}
	tasks := lifecycle.NewTasks(t.Context())
	tasks.Go("log", func(ctx contextT) {
		if err := l.Run(ctx); err != nil && ctx.Err() == nil {
			t.Errorf("log ends with %v", err)
		}
	})
	return l, func() {
		if err := tasks.Stop(); err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

func line(i int) runtime.Record {
	return runtime.Record{
		Time: time.Unix(1000, int64(i)), Stderr: i%3 == 0, Data: fmt.Appendf(nil, "line %d \xff\x00\x1b[0m", i),
		Cursor: runtime.Cursor(fmt.Sprint(i + 1)),
	}
}

func write(t *testing.T, l *Log, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if err := l.Write(line(i)); err != nil {
			t.Fatal(err)
		}
	}
}

// fetch reads a whole log back from the bucket by its index, checking that
// the index, the chunks and the manifest say the same.
func fetch(t *testing.T, b *objectstoretest.Fake, m ci.LogManifest) []logpath.Record {
	t.Helper()
	var x logpath.Index
	if err := json.Unmarshal(get(t, b, place.Index()), &x); err != nil {
		t.Fatal(err)
	}
	if !x.Complete || x.SHA256 != m.SHA256 || x.Lines != m.Lines || x.Bytes != m.Bytes || len(x.Chunks) != m.Chunks {
		t.Fatalf("index %+v, manifest %+v", x, m)
	}
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	var all []logpath.Record
	var sum logpath.Sum
	for i, c := range x.Chunks {
		if c.N != i+1 || c.Line != sum.Lines || c.Byte != sum.Bytes {
			t.Fatalf("chunk %+v does not follow %d records, %d bytes", c, sum.Lines, sum.Bytes)
		}
		text, err := z.DecodeAll(get(t, b, place.Chunk(c.N)), nil)
		if err != nil {
			t.Fatal(err)
		}
		for l := range bytes.Lines(text) {
			r, err := logpath.ParseRecord(l)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, r)
			sum.Add(r)
		}
		if c.Line+c.Lines != sum.Lines || c.Byte+c.Bytes != sum.Bytes {
			t.Fatalf("chunk %+v ends at %d records, %d bytes", c, sum.Lines, sum.Bytes)
		}
	}
	if sum.SHA256() != m.SHA256 {
		t.Fatal("the text in the bucket has another hash than the manifest")
	}
	return all
}

func get(t *testing.T, b *objectstoretest.Fake, key string) []byte {
	t.Helper()
	r, err := b.Get(t.Context(), key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if _, err := buf.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func checkLines(t *testing.T, got []logpath.Record, n int) {
	t.Helper()
	at := 0
	for _, r := range got {
		if r.Stream == logpath.System {
			continue
		}
		want := line(at)
		if !bytes.Equal(r.Data, want.Data) || !r.Time.Equal(want.Time) || (r.Stream == logpath.Stderr) != want.Stderr {
			t.Fatalf("record %d is %q", at, r.Data)
		}
		at++
	}
	if at != n {
		t.Fatalf("%d records, want %d", at, n)
	}
}

func says(records []logpath.Record, part string) bool {
	for _, r := range records {
		if r.Stream == logpath.System && strings.Contains(string(r.Data), part) {
			return true
		}
	}
	return false
}
