package runtimetest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"testing"

	"github.com/slipway-ci/slipway/agent/runtime"
)

// testLogBytes compares what a step writes with what arrives, byte by byte.
func testLogBytes(t *testing.T, b *bench) {
	random := make([]byte, 300_000)
	src := mathrand.New(mathrand.NewPCG(1, 2))
	for i := range random {
		random[i] = byte(src.Uint32())
	}
	for name, data := range map[string][]byte{
		"nothing":             nil,
		"a newline":           []byte("\n"),
		"empty lines":         []byte("\n\n\na\n\n"),
		"no newline at end":   []byte("a\nb"),
		"control characters":  []byte("\x1b[31mred\x1b[0m\r50%\r100%\n\x00\x00 nul\ttab\x07\n"),
		"one long line":       append(bytes.Repeat([]byte("0123456789abcdef"), 64<<10), '\n'),
		"long, no newline":    bytes.Repeat([]byte("x"), 3*runtime.MaxRecord+7),
		"exactly one record":  append(bytes.Repeat([]byte("y"), runtime.MaxRecord), '\n'),
		"exactly two records": append(bytes.Repeat([]byte("z"), 2*runtime.MaxRecord), '\n'),
		"one byte more":       append(bytes.Repeat([]byte("w"), runtime.MaxRecord+1), '\n'),
		"not UTF-8":           []byte("a\xff\xfe\xc3(\n\xe2\x82\n"),
		"random":              random,
	} {
		t.Run(name, func(t *testing.T) {
			if name == "random" && b.LossyUTF8 {
				t.Skip("bytes that are not UTF-8 are lost here")
			}
			s := b.spec("cat data; cat data >&2")
			write(t, s.WorkDir+"/data", data)
			e, out := b.run(s)
			if e.Code != 0 {
				t.Fatalf("exit %+v", e)
			}
			want := data
			if b.LossyUTF8 {
				want = []byte(string([]rune(string(data))))
			}
			for stream, got := range map[string][]byte{"stdout": out.out.Bytes(), "stderr": out.err.Bytes()} {
				if sha256.Sum256(got) != sha256.Sum256(want) {
					t.Errorf("%s is\n%s, want\n%s", stream, short(got), short(want))
				}
			}
			for _, r := range out.records {
				if len(r.Data) > runtime.MaxRecord {
					t.Errorf("a record of %d bytes", len(r.Data))
				}
				if r.Time.IsZero() || r.Cursor == "" {
					t.Errorf("a record without time or cursor: %+v", r)
				}
			}
		})
	}
}

func testBurst(t *testing.T, b *bench) {
	const n = 100_000
	s := b.spec(fmt.Sprintf("seq 1 %d; seq 1 1000 >&2", n))
	_, out := b.run(s)
	var want strings.Builder
	for i := 1; i <= n; i++ {
		fmt.Fprintln(&want, i)
	}
	if got := out.out.String(); got != want.String() {
		t.Errorf("stdout has %d lines and %d bytes, want %d and %d in order",
			strings.Count(got, "\n"), len(got), n, want.Len())
	}
	if got := strings.Count(out.err.String(), "\n"); got != 1000 {
		t.Errorf("stderr has %d lines", got)
	}
}

// testLive sees a line while the step still runs.
func testLive(t *testing.T, b *bench) {
	s := b.spec("echo ready; echo warn >&2; while [ ! -e go ]; do sleep 0.05; done; echo done")
	h := b.start(s)
	out := output{on: func(r runtime.Record) error {
		if string(r.Data) == "warn" {
			write(t, s.WorkDir+"/go", nil)
		}
		return nil
	}}
	if err := b.rt.Logs(b.ctx(), h, "", &out); err != nil {
		t.Fatalf("Logs: %v", err)
	}
	if out.out.String() != "ready\ndone\n" || out.err.String() != "warn\n" {
		t.Errorf("stdout %q, stderr %q", out.out.String(), out.err.String())
	}
}

// testCursors reads on from many places: nothing twice, nothing left out.
func testCursors(t *testing.T, b *bench) {
	s := b.spec("for i in 1 2 3; do seq 1 400; seq 1 100 >&2; sleep 0.05; done; cat long; echo")
	write(t, s.WorkDir+"/long", bytes.Repeat([]byte("l"), 3*runtime.MaxRecord))
	h := b.start(s)
	all := b.logs(h, "")
	if len(all.records) < 1500 {
		t.Fatalf("%d records", len(all.records))
	}
	for i := 0; i < len(all.records); i += 173 {
		compare(t, i, all.records[i+1:], b.logs(h, all.records[i].Cursor).records)
	}
	last := len(all.records) - 1
	compare(t, last, nil, b.logs(h, all.records[last].Cursor).records)
}

func compare(t *testing.T, at int, want, got []runtime.Record) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("behind record %d come %d records, want %d", at, len(got), len(want))
		return
	}
	for i := range want {
		if !bytes.Equal(got[i].Data, want[i].Data) || got[i].Stderr != want[i].Stderr || got[i].Partial != want[i].Partial {
			t.Errorf("record %d behind record %d is %s, want %s", i, at, short(got[i].Data), short(want[i].Data))
			return
		}
	}
}

// testSinkFails stops reading at an error of the sink and goes on behind it.
func testSinkFails(t *testing.T, b *bench) {
	h := b.start(b.spec("seq 1 50"))
	errFull := errors.New("full")
	first := &output{}
	first.on = func(runtime.Record) error {
		if len(first.records) == 20 {
			return errFull
		}
		return nil
	}
	if err := b.rt.Logs(b.ctx(), h, "", first); !errors.Is(err, errFull) {
		t.Fatalf("Logs: %v, want the sink's error", err)
	}
	rest := b.logs(h, first.records[19].Cursor)
	if len(rest.records) != 30 || string(rest.records[0].Data) != "21" {
		t.Errorf("%d records are left, want 30 from 21 on", len(rest.records))
	}
}
