package stepinit

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// How much of a log is kept on disk: a step that floods it loses the oldest
// part, as a container does. The file's offsets stay true: what goes becomes a
// hole.
const (
	keepLog = int64(1280 << 20)
	cutStep = int64(64 << 20)
)

// cut says where the log begins that is still there.
type cut struct{ Start int64 }

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

	dir   string
	keep  int64   // bytes of log to keep
	step  int64   // bytes that are cut off at once
	marks []int64 // ends of records, step apart, where the log may be cut
}

func newSpool(dir string) (*spool, error) {
	f, err := os.OpenFile(LogPath(dir), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot make the log: %w", err)
	}
	return &spool{f: f, dir: dir, keep: keepLog, step: cutStep}, nil
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
	if last := len(s.marks); last == 0 && s.off >= s.step || last > 0 && s.off-s.marks[last-1] >= s.step {
		s.marks = append(s.marks, s.off)
	}
	if len(s.marks) > 1 && s.off-s.marks[0] > s.keep {
		if err := s.cut(s.marks[0]); err != nil {
			fmt.Fprintln(os.Stderr, "slipway-init: cannot cut the log:", err)
		}
	}
	return nil
}

// cut makes a hole of all before start. Readers are told before it is made.
func (s *spool) cut(start int64) error {
	s.marks = s.marks[1:]
	if err := writeJSON(s.dir, cutFile, cut{start}); err != nil {
		return err
	}
	err := unix.Fallocate(int(s.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, start)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil // such a file system keeps it all
	}
	return err
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
