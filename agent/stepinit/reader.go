package stepinit

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"time"
)

// Entry is one record of a spool.
type Entry struct {
	Time    time.Time
	Stderr  bool
	Partial bool // the line goes on in the next entry of the stream
	Data    []byte
	End     int64 // offset just behind the record
}

// Reader reads a spool that may still grow, and whose oldest part may go.
type Reader struct {
	f   io.ReaderAt
	dir string
	off int64 // of buf[0] in the file
	buf []byte
	pos int // of the next record in buf
}

// OpenLog reads records from the offset off, which must be 0 or the End of an
// entry. It fails with os.ErrNotExist until the step has started.
func OpenLog(dir string, off int64) (*Reader, *os.File, error) {
	f, err := os.Open(LogPath(dir))
	if err != nil {
		return nil, nil, err
	}
	return &Reader{f: f, dir: dir, off: off, buf: make([]byte, 0, 128<<10)}, f, nil
}

// Next returns the next record, or io.EOF while it is not there as a whole. Its
// data are valid until the next call. Where a part of the log was cut off
// unread, a note takes its place.
func (r *Reader) Next() (Entry, error) {
	missed, err := r.need(headSize)
	if missed > 0 {
		return r.missing(missed), nil
	}
	if err != nil {
		return Entry{}, err
	}
	head := r.buf[r.pos:]
	if head[0] != magic {
		return Entry{}, fmt.Errorf("cannot read the log at offset %d: no record begins there", r.off+int64(r.pos))
	}
	size := headSize + int(binary.LittleEndian.Uint16(head[2:]))
	missed, err = r.need(size)
	if missed > 0 {
		return r.missing(missed), nil
	}
	if err != nil {
		return Entry{}, err
	}
	rec := r.buf[r.pos : r.pos+size]
	r.pos += size
	return Entry{
		Time:   time.Unix(0, int64(binary.LittleEndian.Uint64(rec[4:]))),
		Stderr: rec[1]&flagStderr != 0, Partial: rec[1]&flagPartial != 0,
		Data: rec[headSize:], End: r.off + int64(r.pos),
	}, nil
}

// missing is the note that stands for what was cut off.
func (r *Reader) missing(n int64) Entry {
	text := fmt.Sprintf("slipway: about %d bytes of output are missing here: the step wrote more than is kept", n)
	return Entry{Time: time.Now(), Stderr: true, Data: []byte(text), End: r.off}
}

// Torn tells whether a part of a record stands at the end: its writer was killed.
func (r *Reader) Torn() bool { return len(r.buf) > r.pos }

// need makes n bytes available behind what was handed out. It tells how many
// bytes went unread when the log was cut, and then stands behind them.
func (r *Reader) need(n int) (missed int64, err error) {
	if len(r.buf)-r.pos >= n {
		return 0, nil
	}
	r.off += int64(r.pos)
	r.buf = r.buf[:copy(r.buf, r.buf[r.pos:])]
	r.pos = 0
	for len(r.buf) < n && err == nil {
		var m int
		m, err = r.f.ReadAt(r.buf[len(r.buf):cap(r.buf)], r.off+int64(len(r.buf)))
		r.buf = r.buf[:len(r.buf)+m]
	}
	// The cut is told before the hole is made: what was read before it is sound.
	var c cut
	if _, err := readJSON(r.dir, cutFile, &c); err != nil {
		return 0, err
	}
	if c.Start > r.off {
		missed = c.Start - r.off
		r.off, r.buf = c.Start, r.buf[:0]
		return missed, nil
	}
	if len(r.buf) >= n {
		return 0, nil
	}
	return 0, err
}
