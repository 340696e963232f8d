package logship

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/shared/logpath"
)

// The spool is an append-only file of batches. A batch is some records as
// lines of NDJSON, exactly as chunks hold them, and one trailer:
//
//	{"t":...,"s":"o","m":"..."}
//	{"t":...,"s":"e","m":"..."}
//	{"c":"<cursor>","l":<records so far>,"b":<text bytes so far>,"x":true when cut}
//
// The trailer makes a restart resume exactly once: what has no trailer behind
// it is cut off when the file is opened, and the runtime is asked for
// everything after the last trailer's cursor. The file is not synced: a host
// that loses power has lost the step as well.
type trailer struct {
	Cursor runtime.Cursor `json:"c"`
	Lines  int64          `json:"l"`
	Bytes  int64          `json:"b"`
	Cut    bool           `json:"x,omitempty"`
}

var trailerStart = []byte(`{"c":`)

func appendTrailer(dst []byte, t trailer) ([]byte, error) {
	line, err := json.Marshal(t)
	if err != nil {
		return dst, fmt.Errorf("cannot write a log cursor: %w", err)
	}
	return append(append(dst, line...), '\n'), nil
}

// maxLine bounds a line of the spool: a record of text that is all escapes.
const maxLine = 8*runtime.MaxRecord + 256

// mark is a place in the spool: the record that begins at an offset.
type mark struct{ line, offset int64 }

// markEvery bounds how much of the spool a tail has to read through, and keeps
// the marks of a whole GiB within 64 KiB of memory.
const markEvery = 256 << 10

// recovered is what a spool that is already there holds.
type recovered struct {
	last  trailer
	size  int64
	sum   logpath.Sum
	marks []mark
}

// recoverSpool reads f from its start and cuts off what has no trailer.
func recoverSpool(f *os.File) (recovered, error) {
	out := recovered{marks: []mark{{}}}
	in := bufio.NewReaderSize(f, maxLine)
	var batch []logpath.Record
	var at int64
	for {
		line, err := in.ReadSlice('\n')
		at += int64(len(line))
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return recovered{}, fmt.Errorf("cannot read log spool %s: %w", f.Name(), err)
		}
		if bytes.HasPrefix(line, trailerStart) {
			var t trailer
			if json.Unmarshal(line, &t) != nil {
				break
			}
			for _, r := range batch {
				out.sum.Add(r)
			}
			batch = batch[:0]
			out.last, out.size = t, at
			if out.size-out.marks[len(out.marks)-1].offset >= markEvery {
				out.marks = append(out.marks, mark{t.Lines, at})
			}
			continue
		}
		r, err := logpath.ParseRecord(line)
		if err != nil {
			break
		}
		batch = append(batch, r)
	}
	if err := f.Truncate(out.size); err != nil {
		return recovered{}, fmt.Errorf("cannot mend log spool %s: %w", f.Name(), err)
	}
	return out, nil
}

// scan calls fn for every line of whole batches from offset on, up to end, with
// the offset behind the line, until fn returns false.
func scan(f io.ReaderAt, offset, end int64, fn func(line []byte, behind int64) (bool, error)) error {
	in := bufio.NewReaderSize(io.NewSectionReader(f, offset, end-offset), maxLine)
	for {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot read log spool at byte %d: %w", offset, err)
		}
		offset += int64(len(line))
		if more, err := fn(line, offset); err != nil || !more {
			return err
		}
	}
}
