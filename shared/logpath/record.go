package logpath

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/slipway-ci/slipway/shared/ci"
)

// Stream says where a record comes from.
type Stream byte

// The streams. System is what the agent itself says about the attempt.
const (
	Stdout Stream = 'o'
	Stderr Stream = 'e'
	System Stream = 'y'
)

// String returns stdout, stderr or system.
func (s Stream) String() string {
	switch s {
	case Stderr:
		return "stderr"
	case System:
		return "system"
	default:
		return "stdout"
	}
}

// Record is one line of a log without its newline, or a part of an overlong
// one (Partial: the line goes on in the next record of the same stream).
type Record struct {
	Time    time.Time
	Stream  Stream
	Data    []byte
	Partial bool
}

// AppendText appends the record as a reader sees it: its bytes, and a newline
// unless the line goes on.
func (r Record) AppendText(dst []byte) []byte {
	dst = append(dst, r.Data...)
	if !r.Partial {
		dst = append(dst, '\n')
	}
	return dst
}

// AppendRecord appends r as one line of NDJSON with its newline:
//
//	{"t":<ns since 1970>,"s":"o|e|y","m":"text"}    or "b":"<base64>" when the
//	data is not UTF-8, and "p":true when the record is partial
func AppendRecord(dst []byte, r Record) []byte {
	dst = append(dst, `{"t":`...)
	dst = strconv.AppendInt(dst, r.Time.UnixNano(), 10)
	dst = append(dst, `,"s":"`...)
	dst = append(dst, byte(r.Stream), '"', ',')
	if utf8.Valid(r.Data) {
		dst = append(dst, `"m":"`...)
		dst = appendEscaped(dst, r.Data)
	} else {
		dst = append(dst, `"b":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, r.Data)
	}
	dst = append(dst, '"')
	if r.Partial {
		dst = append(dst, `,"p":true`...)
	}
	return append(dst, '}', '\n')
}

// appendEscaped appends valid UTF-8 as the inside of a JSON string.
func appendEscaped(dst, s []byte) []byte {
	const hex = "0123456789abcdef"
	from := 0
	for i, c := range s {
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\t':
			dst = append(dst, '\\', 't')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\n':
			dst = append(dst, '\\', 'n')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(dst, s[from:]...)
}

type wireRecord struct {
	T *int64  `json:"t"`
	S string  `json:"s"`
	M *string `json:"m"`
	B []byte  `json:"b"`
	P bool    `json:"p"`
}

// ParseRecord reads one line that AppendRecord wrote, with or without its newline.
func ParseRecord(line []byte) (Record, error) {
	var w wireRecord
	if err := json.Unmarshal(line, &w); err != nil {
		return Record{}, ci.Errorf(ci.Invalid, "cannot read log record: %w", err)
	}
	if w.T == nil || len(w.S) != 1 || (w.M == nil) == (w.B == nil) {
		return Record{}, ci.Errorf(ci.Invalid, "cannot read log record: t, s, and one of m and b must be there")
	}
	r := Record{Time: time.Unix(0, *w.T), Stream: Stream(w.S[0]), Data: w.B, Partial: w.P}
	switch r.Stream {
	case Stdout, Stderr, System:
	default:
		return Record{}, ci.Errorf(ci.Invalid, "cannot read log record: unknown stream %q", w.S)
	}
	if w.M != nil {
		r.Data = []byte(*w.M)
	}
	return r, nil
}
