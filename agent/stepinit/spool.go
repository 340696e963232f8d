package stepinit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// MaxRecord is the longest data of a record; longer lines come in parts.
const MaxRecord = 16 << 10

// A record of the spool, little endian:
//
//	0  magic  1 byte, so that a wrong offset is noticed
//	1  flags  1 byte: 1 standard error, 2 the line goes on, 4 written by the init itself
//	2  length of the data, 2 bytes
//	4  wall time in ns, 8 bytes
//	12 data
const (
	headSize    = 12
	magic       = 0xA7
	flagStderr  = 1
	flagPartial = 2
	flagNote    = 4
)

// readSize is how much of a pipe is taken at once.
const readSize = 64 << 10

// spool appends records to the log. Writing never fails for its callers: a step
// must not stand still because the disk is full. What could not be written is
// counted, and said in the log itself once there is room again.
type spool struct {
	mu    sync.Mutex
	f     *os.File
	off   int64 // of the end of the last whole record
	lost  int64 // bytes since the last note
	total int64 // bytes lost in all
	cause error
}

func (s *spool) append(records []byte) {
	if len(records) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost > 0 && !s.note() {
		s.lose(len(records), s.cause)
		return
	}
	if err := s.write(records); err != nil {
		s.lose(len(records), err)
	}
}

func (s *spool) write(b []byte) error {
	if _, err := s.f.WriteAt(b, s.off); err != nil {
		// A torn record would hide all that follows.
		return errors.Join(err, s.f.Truncate(s.off))
	}
	s.off += int64(len(b))
	return nil
}

func (s *spool) lose(n int, err error) {
	s.lost += int64(n)
	s.total += int64(n)
	s.cause = err
}

// note tells in the log what it lacks.
func (s *spool) note() bool {
	text := fmt.Sprintf("slipway: about %d bytes of output are missing here: %v", s.lost, s.cause)
	if err := s.write(record(nil, flagStderr|flagNote, time.Now(), []byte(text))); err != nil {
		return false
	}
	s.lost = 0
	return true
}

// close notes what is still to be noted and returns how much was lost.
func (s *spool) close() (lost int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost > 0 {
		s.note()
	}
	return s.total, s.f.Close()
}

func record(to []byte, flags byte, at time.Time, data []byte) []byte {
	to = append(to, magic, flags)
	to = binary.LittleEndian.AppendUint16(to, uint16(len(data)))
	to = binary.LittleEndian.AppendUint64(to, uint64(at.UnixNano()))
	return append(to, data...)
}

// pump turns what it reads into records until r ends. Its memory does not
// depend on the length of a line.
func pump(r io.Reader, flags byte, s *spool) {
	buf := make([]byte, readSize)
	held := 0 // bytes at the start of buf: a line that has not ended yet
	var out []byte
	for {
		n, err := r.Read(buf[held:])
		now := time.Now()
		rest := buf[:held+n]
		out = out[:0]
		for {
			end := bytes.IndexByte(rest, '\n')
			if end < 0 && len(rest) < MaxRecord {
				break
			}
			if end < 0 || end > MaxRecord {
				out = record(out, flags|flagPartial, now, rest[:MaxRecord])
				rest = rest[MaxRecord:]
				continue
			}
			out = record(out, flags, now, rest[:end])
			rest = rest[end+1:]
		}
		if err != nil && len(rest) > 0 {
			out = record(out, flags|flagPartial, now, rest)
		}
		s.append(out)
		if err != nil {
			return
		}
		held = copy(buf, rest)
	}
}

// Entry is one record of a spool.
type Entry struct {
	Time    time.Time
	Stderr  bool
	Partial bool // the line goes on in the next entry of the stream
	Data    []byte
	End     int64 // offset just behind the record
}

// Reader reads a spool that may still grow.
type Reader struct {
	f   io.ReaderAt
	off int64 // of buf[0] in the file
	buf []byte
	pos int // of the next record in buf
}

// NewReader reads records from the offset off, which must be 0 or the End of an
// entry.
func NewReader(f io.ReaderAt, off int64) *Reader {
	return &Reader{f: f, off: off, buf: make([]byte, 0, 128<<10)}
}

// Next returns the next record, or io.EOF while it is not there as a whole. Its
// data are valid until the next call.
func (r *Reader) Next() (Entry, error) {
	if err := r.need(headSize); err != nil {
		return Entry{}, err
	}
	head := r.buf[r.pos:]
	if head[0] != magic {
		return Entry{}, fmt.Errorf("cannot read the log at offset %d: no record begins there", r.off+int64(r.pos))
	}
	size := headSize + int(binary.LittleEndian.Uint16(head[2:]))
	if err := r.need(size); err != nil {
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

// Torn tells whether a part of a record stands at the end: its writer was killed.
func (r *Reader) Torn() bool { return len(r.buf) > r.pos }

// need makes n bytes available behind what was handed out.
func (r *Reader) need(n int) error {
	if len(r.buf)-r.pos >= n {
		return nil
	}
	r.off += int64(r.pos)
	r.buf = r.buf[:copy(r.buf, r.buf[r.pos:])]
	r.pos = 0
	for len(r.buf) < n {
		m, err := r.f.ReadAt(r.buf[len(r.buf):cap(r.buf)], r.off+int64(len(r.buf)))
		r.buf = r.buf[:len(r.buf)+m]
		if len(r.buf) >= n {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}
