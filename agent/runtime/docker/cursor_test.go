package docker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/slipway-ci/slipway/agent/runtime"
)

// log is a log as an engine keeps it: times in the order of writing.
type log []int64

// since gives the records that an engine would send from a place on.
func (l log) since(p place) []int {
	var out []int
	for i, ns := range l {
		if ns >= p.base {
			out = append(out, i)
		}
	}
	return out
}

// resume reads on from a cursor and returns the numbers of the records.
func (l log) resume(t *testing.T, c runtime.Cursor) (got []int, end place) {
	t.Helper()
	p, err := parseCursor(c)
	if err != nil {
		t.Fatal(err)
	}
	records := l.since(p)
	skip := p.rewind()
	for _, i := range records {
		p.pass(l[i])
		if skip > 0 {
			skip--
			continue
		}
		got = append(got, i)
	}
	return got, p
}

// From every cursor exactly the rest is read, whatever the times are like.
func TestCursor(t *testing.T) {
	t.Parallel()
	src := rand.New(rand.NewPCG(7, 9))
	begin := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC).UnixNano()
	logs := map[string]func(i int) int64{
		"steady":       func(i int) int64 { return begin + int64(i)*7e6 },
		"all at once":  func(int) int64 { return begin },
		"out of order": func(i int) int64 { return begin + int64(i)*9e6 - src.Int64N(900e6) },
		"pauses":       func(i int) int64 { return begin + int64(i/50)*60e9 + int64(i) },
		"clock set back": func(i int) int64 {
			if i > 1200 {
				i -= 1100
			}
			return begin + int64(i)*20e6
		},
	}
	for name, at := range logs {
		t.Run(name, func(t *testing.T) {
			var l log
			for i := range 2000 {
				l = append(l, at(i))
			}
			var p place
			for i, ns := range l {
				p.pass(ns)
				// Records older than the base of a cursor made before the clock was
				// set back by more than keep are out of its reach.
				if i%37 != 0 || name == "clock set back" && i <= 1200 {
					continue
				}
				got, end := l.resume(t, p.cursor())
				if len(got) != len(l)-i-1 || len(got) > 0 && got[0] != i+1 {
					t.Fatalf("behind record %d (cursor %s) come %d records, want %d", i, p.cursor(), len(got), len(l)-i-1)
				}
				if end.total != int64(len(l)) {
					t.Fatalf("%d records in all, want %d", end.total, len(l))
				}
			}
			if name == "steady" && (len(p.window) > 40 || p.base == 0) {
				t.Errorf("the window has %d slots, the base is %d", len(p.window), p.base)
			}
		})
	}
	for _, bad := range []runtime.Cursor{"x", "1.2", "1.2.3.4", "-1.0.0", "0.5.4", "1..2"} {
		if _, err := parseCursor(bad); err == nil {
			t.Errorf("%q passes for a cursor", bad)
		}
	}
}

func frame(stream byte, text string) []byte {
	b := []byte{stream, 0, 0, 0}
	return append(binary.BigEndian.AppendUint32(b, uint32(len(text))), text...)
}

func TestReadFrame(t *testing.T) {
	t.Parallel()
	const stamp = "2026-11-25T13:36:18.000000042Z "
	in := bytes.NewReader(bytes.Join([][]byte{
		frame(1, stamp+"out\n"), frame(2, stamp+"part of a line"), frame(1, stamp+"\n"), frame(1, stamp+"cut")[:20],
	}, nil))
	var buf []byte
	for _, want := range []runtime.Record{{Data: []byte("out")}, {Data: []byte("part of a line"), Stderr: true, Partial: true}, {Data: []byte{}}} {
		got, next, err := readFrame(in, buf)
		if err != nil || !bytes.Equal(got.Data, want.Data) || got.Stderr != want.Stderr || got.Partial != want.Partial || got.Time.Nanosecond() != 42 {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
		buf = next
	}
	if _, _, err := readFrame(in, buf); !errors.Is(err, io.EOF) {
		t.Errorf("a cut frame: %v, want the end", err)
	}
	for _, bad := range [][]byte{frame(1, "no time\n"), frame(3, "error of the engine"), frame(1, "2026-13-01T00:00:00Z x"), {1, 0, 0, 0, 255, 255, 255, 255}} {
		if _, _, err := readFrame(bytes.NewReader(bad), nil); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%q is read: %v", bad, err)
		}
	}
}

func TestPickDigest(t *testing.T) {
	t.Parallel()
	a, b := "sha256:"+strings.Repeat("a", 64), "sha256:"+strings.Repeat("b", 64)
	for _, tt := range []struct {
		name    string
		digests []string
		want    string
	}{
		{"alpine", []string{"alpine@" + a}, "alpine@" + a},
		{"docker.io/library/alpine:3", []string{"other@" + b, "alpine@" + a}, "alpine@" + a},
		{"localhost:5000/x:1", []string{"x@" + b, "localhost:5000/x@" + a}, "localhost:5000/x@" + a},
		{"x@" + b, []string{"x@" + a, "x@" + b}, "x@" + b},
		{"alpine", []string{"other@" + b}, "id"},
		{"alpine", nil, "id"},
		{a, []string{"alpine@" + b}, "id"},
	} {
		if got := pickDigest(tt.name, tt.digests, "id"); got != tt.want {
			t.Errorf("pickDigest(%q, %q) = %q, want %q", tt.name, tt.digests, got, tt.want)
		}
	}
}

func TestAuthFrom(t *testing.T) {
	t.Parallel()
	config := []byte(`{"auths": {"registry.example:5000": {"auth": "dXNlcjpzZWNyZXQ="}, "https://index.docker.io/v1/": {"auth": "aHViOng="}, "broken": {"auth": "%"}}}`)
	for domain, want := range map[string]bool{"registry.example:5000": true, "docker.io": true, "broken": false, "other": false} {
		if got := authFrom(config, domain); (got != "") != want {
			t.Errorf("authFrom(%s) = %q", domain, got)
		}
	}
	if authFrom([]byte("no json"), "other") != "" {
		t.Error("a broken file gives credentials")
	}
}

func TestParseUser(t *testing.T) {
	t.Parallel()
	for user, want := range map[string][3]any{
		"": {0, 0, true}, "root": {0, 0, true}, "0:0": {0, 0, true}, "1000": {1000, -1, true},
		"1000:100": {1000, 100, true}, "nobody": {0, 0, false}, "1000:users": {1000, -1, true}, "-5": {0, 0, false},
	} {
		uid, gid, numeric := parseUser(user)
		if numeric != want[2] || numeric && uid != want[0] || numeric && uid != 0 && gid != want[1] {
			t.Errorf("parseUser(%q) = %d, %d, %t", user, uid, gid, numeric)
		}
	}
}
