package stepinit

import (
	"bytes"
	"encoding/binary"
	"io"
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
