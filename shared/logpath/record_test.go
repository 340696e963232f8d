package logpath

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRecordRoundTrip(t *testing.T) {
	t.Parallel()
	at := time.Unix(1700000000, 123456789)
	for _, data := range []string{
		"", "plain", `quo"te \ back`, "tab\tcr\rnl\n", "\x1b[31mred\x1b[0m", "nul\x00nul", "\x01\x1f\x7f",
		"caffè 日本 \u2028 \ufffd", "\xff\xfe", "half \xe2\x82", "<script>&amp;", "\x80",
	} {
		for _, r := range []Record{
			{Time: at, Stream: Stdout, Data: []byte(data)},
			{Time: at, Stream: Stderr, Data: []byte(data), Partial: true},
			{Time: time.Unix(0, 1), Stream: System, Data: []byte(data)},
		} {
			line := AppendRecord(nil, r)
			if !json.Valid(line) || bytes.Count(line, []byte("\n")) != 1 {
				t.Fatalf("%q: not one line of JSON: %q", data, line)
			}
			got, err := ParseRecord(line)
			if err != nil {
				t.Fatalf("%q: %v", data, err)
			}
			if diff := cmp.Diff(r, got); diff != "" {
				t.Errorf("%q: %s", data, diff)
			}
		}
	}
}

func TestRecordForm(t *testing.T) {
	t.Parallel()
	at := time.Unix(1, 5)
	for _, c := range []struct {
		r    Record
		want string
	}{
		{Record{Time: at, Stream: Stdout, Data: []byte("a\x1b")}, `{"t":1000000005,"s":"o","m":"a\u001b"}` + "\n"},
		{Record{Time: at, Stream: Stderr, Data: []byte("\xff"), Partial: true}, `{"t":1000000005,"s":"e","b":"/w==","p":true}` + "\n"},
	} {
		if got := string(AppendRecord(nil, c.r)); got != c.want {
			t.Errorf("got %s want %s", got, c.want)
		}
	}
}

func TestParseRecordRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"", "{", "{}", `{"t":1,"s":"o"}`, `{"t":1,"s":"x","m":""}`, `{"s":"o","m":"a"}`, `{"t":1,"s":"o","b":"*"}`,
		`{"t":1,"s":"o","m":"a","b":"YQ=="}`, `{"t":1,"s":"","m":"a"}`, `[]`, `{"t":"1","s":"o","m":"a"}`,
	} {
		if r, err := ParseRecord([]byte(s)); err == nil {
			t.Errorf("%s: %v, want an error", s, r)
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte("a\x00\xff\x1b[0m"), true)
	f.Fuzz(func(t *testing.T, data []byte, partial bool) {
		r := Record{Time: time.Unix(0, 42), Stream: Stderr, Data: data, Partial: partial}
		got, err := ParseRecord(AppendRecord(nil, r))
		if err != nil || !bytes.Equal(got.Data, data) || got.Partial != partial {
			t.Fatalf("%q -> %q, %v", data, got.Data, err)
		}
		_, _ = ParseRecord(data)
	})
}

func TestSum(t *testing.T) {
	t.Parallel()
	var s Sum
	empty := sha256.Sum256(nil)
	if s.SHA256() != hex.EncodeToString(empty[:]) {
		t.Error("the sum of nothing is not that of no bytes")
	}
	for _, r := range []Record{
		{Stream: Stdout, Data: []byte("one")},
		{Stream: System, Data: []byte("the agent says")},
		{Stream: Stderr, Data: []byte("tw"), Partial: true},
		{Stream: Stderr, Data: []byte("o")},
	} {
		s.Add(r)
	}
	want := sha256.Sum256([]byte("one\ntwo\n"))
	m := s.Manifest(3, true)
	if m.Lines != 4 || m.Bytes != 8 || m.SHA256 != hex.EncodeToString(want[:]) || m.Chunks != 3 || !m.Truncated {
		t.Errorf("manifest %+v", m)
	}
}

func TestIndexFind(t *testing.T) {
	t.Parallel()
	x := Index{Chunks: []Chunk{{N: 1, Line: 0, Lines: 3}, {N: 2, Line: 3, Lines: 1}, {N: 3, Line: 4, Lines: 6}}}
	for line, want := range []int{0, 0, 0, 1, 2, 2, 2, 2, 2, 2, 3, 3} {
		if got := x.Find(int64(line)); got != want {
			t.Errorf("record %d is in %d, want %d", line, got, want)
		}
	}
}
