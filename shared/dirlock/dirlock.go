// Package dirlock lets one process at a time use a folder.
package dirlock

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrHeld says that another process holds the lock.
var ErrHeld = errors.New("another process holds the lock")

const (
	// patience is how long a lock may outlive the process that took it. The trap:
	// a process that is killed while it starts a child leaves its files open in
	// that child until the child's exec, a moment later.
	patience = 2 * time.Second
	pause    = 20 * time.Millisecond
)

// Lock is a lock that is held.
type Lock struct{ f *os.File }

// Take locks the file at path, which is made when absent and never deleted. It
// is ErrHeld when another process has it, or another Lock of this one.
func Take(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open the lock: %w", err)
	}
	for deadline := time.Now().Add(patience); ; <-time.After(pause) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return &Lock{f}, nil
		case errors.Is(err, unix.EINTR):
		case !errors.Is(err, unix.EWOULDBLOCK):
			return nil, errors.Join(fmt.Errorf("cannot lock %s: %w", path, err), f.Close())
		case time.Now().After(deadline):
			return nil, errors.Join(ErrHeld, f.Close())
		}
	}
}

// Release gives the lock back. It unlocks by name and does not leave it to the
// close: a child that is just being started may have the file open too.
func (l *Lock) Release() error {
	return errors.Join(unix.Flock(int(l.f.Fd()), unix.LOCK_UN), l.f.Close())
}
