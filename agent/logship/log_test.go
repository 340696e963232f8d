package logship

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/logpath"
	"github.com/slipway-ci/slipway/shared/objectstore/objectstoretest"
)

type contextT = context.Context

func TestWholeLogArrives(t *testing.T) {
	t.Parallel()
	b := objectstoretest.Memory()
	l, stop := start(t, newShipper(t, b), t.TempDir())
	defer stop()
	const n = 40_000
	write(t, l, 0, n)
	l.Say("bye from %s", "the agent")
	m, err := l.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if m.Lines != n+1 || m.Truncated {
		t.Errorf("manifest %+v", m)
	}
	got := fetch(t, b, m)
	checkLines(t, got, n)
	if !says(got, "bye from the agent") {
		t.Error("the agent's own line is missing")
	}
	if err := l.Write(line(0)); err == nil {
		t.Error("a log that has ended takes more")
	}
}

func TestEmptyLog(t *testing.T) {
	t.Parallel()
	b := objectstoretest.Memory()
	l, stop := start(t, newShipper(t, b), t.TempDir())
	defer stop()
	m, err := l.Finish(t.Context())
	if err != nil || m.Lines != 0 || m.Chunks != 0 {
		t.Fatalf("%+v, %v", m, err)
	}
	fetch(t, b, m)
}

// A restart at any moment resumes exactly once: the runtime is asked for what
// follows the cursor, and nothing is lost or doubled.
func TestRestartsResumeExactlyOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, dir := objectstoretest.Memory(), t.TempDir()
		const n = 3000
		for round := range 30 {
			l, stop := start(t, newShipper(t, b), dir)
			from := 0
			if c := l.Cursor(); c != "" {
				if err := json.Unmarshal([]byte(c), &from); err != nil {
					t.Fatal(err)
				}
			}
			to := min(from+137, n)
			write(t, l, from, to)
			time.Sleep(time.Duration(round) * 100 * time.Millisecond) // some rounds ship, some only write
			if round%4 == 0 {
				tear(t, l)
			}
			stop()
		}
		l, stop := start(t, newShipper(t, b), dir)
		defer stop()
		var from int
		if err := json.Unmarshal([]byte(l.Cursor()), &from); err != nil {
			t.Fatal(err)
		}
		write(t, l, from, n)
		m, err := l.Finish(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		checkLines(t, fetch(t, b, m), n)
	})
}

// tear leaves what a kill in the middle of a write leaves: a batch without its
// trailer.
func tear(t *testing.T, l *Log) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	torn := logpath.AppendRecord(bytes.Clone(l.batch), logpath.Record{Time: time.Unix(1, 1), Stream: logpath.Stdout, Data: []byte("torn")})
	if _, err := l.file.WriteAt(torn[:len(torn)-3], l.size); err != nil {
		t.Fatal(err)
	}
	l.batch = nil
	l.last.Lines, l.sum.Lines = l.lines, l.lines
}

func TestOutageCostsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := objectstoretest.Memory()
		b.Down(true)
		l, stop := start(t, newShipper(t, b), t.TempDir())
		defer stop()
		write(t, l, 0, 50_000)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		if _, err := l.Finish(ctx); err == nil {
			t.Fatal("finished without a store")
		}
		if m, err := l.Manifest(); err != nil || m.Lines != 50_000 {
			t.Fatalf("manifest %+v, %v", m, err)
		}
		b.Down(false)
		m, err := l.Finish(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		checkLines(t, fetch(t, b, m), 50_000)
		if m.Chunks > 10 {
			t.Errorf("%d chunks: they do not grow under load", m.Chunks)
		}
	})
}

func TestSlowLogShipsEveryTwoSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := objectstoretest.Memory()
		l, stop := start(t, newShipper(t, b), t.TempDir())
		defer stop()
		for i := range 40 {
			write(t, l, i, i+1)
			time.Sleep(500 * time.Millisecond)
		}
		synctest.Wait()
		var x logpath.Index
		if err := json.Unmarshal(get(t, b, place.Index()), &x); err != nil {
			t.Fatal(err)
		}
		if len(x.Chunks) < 4 || len(x.Chunks) > 10 || x.Complete {
			t.Errorf("after 20 s the index, at most 10 s old, has %d chunks", len(x.Chunks))
		}
		if n := len(b.Keys()); n < 9 || n > 13 {
			t.Errorf("%d objects after 20 s: %v", n, b.Keys())
		}
	})
}

func TestLogLimit(t *testing.T) {
	t.Parallel()
	b := objectstoretest.Memory()
	s := newShipper(t, b)
	s.maxLog = 1000
	l, stop := start(t, s, t.TempDir())
	defer stop()
	for range 100 {
		if err := l.Write(runtime.Record{Data: make([]byte, 99)}); err != nil {
			t.Fatal(err)
		}
	}
	m, err := l.Finish(t.Context())
	if err != nil || !m.Truncated || m.Bytes > 1000 {
		t.Fatalf("%+v, %v", m, err)
	}
	got := fetch(t, b, m)
	if !says(got, "limit of 1000 bytes") || !says(got, "90 records were left out") {
		t.Errorf("the log does not say that it is cut: %d records", len(got))
	}
}

func TestTail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShipper(t, objectstoretest.Memory())
		l, stop := start(t, s, t.TempDir())
		defer stop()
		begin := time.Now()
		if r, next, end, err := s.Tail(t.Context(), "a1", 0, 10, 3*time.Second); err != nil || len(r) != 0 || next != 0 || end {
			t.Fatalf("%v %d %v %v", r, next, end, err)
		}
		if time.Since(begin) != 3*time.Second {
			t.Error("an empty tail does not wait")
		}
		write(t, l, 0, 20_000)
		var all []logpath.Record
		next, end := int64(0), false
		for int64(len(all)) < 20_000 {
			var r []logpath.Record
			var err error
			r, next, end, err = s.Tail(t.Context(), "a1", next, 700, time.Second)
			if err != nil || len(r) == 0 || end {
				t.Fatalf("%d records, end %v, %v", len(r), end, err)
			}
			all = append(all, r...)
		}
		checkLines(t, all, 20_000)
		if _, err := l.Finish(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r, n, end, err := s.Tail(t.Context(), "a1", next, 10, time.Minute); err != nil || len(r) != 0 || n != 20_000 || !end {
			t.Fatalf("at the end: %v %d %v %v", r, n, end, err)
		}
		if r, n, end, err := s.Tail(t.Context(), "a1", 19_990, 100, 0); err != nil || len(r) != 10 || n != 20_000 || !end {
			t.Fatalf("the last ten: %d %d %v %v", len(r), n, end, err)
		}
		if _, _, _, err := s.Tail(t.Context(), "other", 0, 10, 0); ci.KindOf(err) != ci.NotFound {
			t.Errorf("unknown attempt: %v", err)
		}
	})
}

// A line is seen by whoever follows within a batch's age, not at the next chunk.
func TestTailIsPrompt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShipper(t, objectstoretest.Memory())
		l, stop := start(t, s, t.TempDir())
		defer stop()
		write(t, l, 0, 1)
		begin := time.Now()
		r, _, _, err := s.Tail(t.Context(), "a1", 0, 10, time.Minute)
		if err != nil || len(r) != 1 || time.Since(begin) > 100*time.Millisecond {
			t.Errorf("%d records after %s, %v", len(r), time.Since(begin), err)
		}
	})
}

func TestFullDiskIsAnError(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newShipper(t, objectstoretest.Memory())
	l, err := s.Open("a1", dir, place)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.file.Close(); err != nil { // any write error will do
		t.Fatal(err)
	}
	for range 10_000 {
		if err = l.Write(line(1)); err != nil {
			break
		}
	}
	if err == nil {
		t.Fatal("records vanish without an error")
	}
	if err := l.Close(); err == nil {
		t.Error("closing does not tell that the end is lost")
	}
	if _, err := os.Stat(filepath.Join(dir, "spool")); err != nil {
		t.Error(err)
	}
}
