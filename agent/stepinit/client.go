package stepinit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Find returns the command line of an init, to which Spawn appends its
// arguments: the small slipway-init beside the running program, else the
// program itself, which must call MaybeMain.
func Find() []string {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "slipway-init")
		if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return []string{beside}
		}
	}
	return []string{"/proc/self/exe"}
}

// Spawn starts an init for dir and returns once the command runs, or is known
// never to run. The caller must Wait for the process at some time, which ends
// when the step does. It may be called twice for one step: the second init
// leaves at once.
func Spawn(ctx context.Context, argv []string, dir string) (*os.Process, error) {
	said, err := os.OpenFile(filepath.Join(dir, "init.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot make the log of the init: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, said.Close())
	}
	cmd := exec.Command(argv[0], append(argv[1:len(argv):len(argv)], Verb, dir)...)
	cmd.Env = []string{Env + "=1", "GOMAXPROCS=2", "GOTRACEBACK=single", "GORACE=atexit_sleep_ms=0"}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = said, said
	cmd.ExtraFiles = []*os.File{w} // descriptor 3, replyFD
	// A session of its own: neither a terminal's Ctrl-C nor its end reaches it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	err = errors.Join(err, w.Close(), said.Close())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start the init %s: %w", argv[0], err), r.Close())
	}
	stop := context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	reply := make([]byte, 4<<10)
	n, err := io.ReadAtLeast(r, reply, 1)
	closeErr := r.Close()
	switch answer := string(reply[:n]); {
	case answer == replyStarted || answer == replyTaken || answer == replyStarted+replyStarted:
		return cmd.Process, closeErr
	case ctx.Err() != nil:
		return cmd.Process, fmt.Errorf("gave up waiting for the init of %s: %w", dir, context.Cause(ctx))
	case n > 0:
		return cmd.Process, fmt.Errorf("cannot start the step in %s: the init says %s", dir, answer)
	default:
		return cmd.Process, fmt.Errorf("cannot start the step in %s: the init ended without a word (see init.log there): %w", dir, err)
	}
}

// Watch sees whether an init holds a step.
type Watch struct{ f *os.File }

// OpenWatch watches the step in dir.
func OpenWatch(dir string) (*Watch, error) {
	f, err := os.OpenFile(filepath.Join(dir, aliveFile), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot watch the step in %s: %w", dir, err)
	}
	return &Watch{f}, nil
}

// Close ends the watch.
func (w *Watch) Close() error { return w.f.Close() }

// Gone waits until no init holds the step, at most for the time given (without
// limit when it is negative), and tells whether that is so.
func (w *Watch) Gone(ctx context.Context, wait time.Duration) (bool, error) {
	// A read past its deadline would not even look.
	if gone, err := w.look(); err != nil || gone || wait == 0 {
		return gone, err
	}
	var deadline time.Time
	if wait > 0 {
		deadline = time.Now().Add(wait)
	}
	if err := w.f.SetReadDeadline(deadline); err != nil {
		return false, fmt.Errorf("cannot watch a step: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = w.f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	_, err := w.f.Read(make([]byte, 1))
	switch {
	case errors.Is(err, io.EOF):
		return true, nil
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return false, nil
	default:
		return false, fmt.Errorf("cannot watch a step: %w", err)
	}
}

// look tells whether the FIFO is at its end right now.
func (w *Watch) look() (gone bool, err error) {
	raw, err := w.f.SyscallConn()
	if err != nil {
		return false, fmt.Errorf("cannot watch a step: %w", err)
	}
	var readErr error
	err = raw.Control(func(fd uintptr) {
		var n int
		n, readErr = unix.Read(int(fd), make([]byte, 1))
		gone = n == 0 && readErr == nil
	})
	if errors.Is(readErr, unix.EAGAIN) {
		readErr = nil
	}
	return gone, errors.Join(err, readErr)
}

// Stop has the init of dir end its step and returns once nothing of it runs. A
// step that nobody has started yet never will be.
func Stop(ctx context.Context, dir string, o Order) error {
	w, err := OpenWatch(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer w.f.Close()
	mine, err := Claim(dir)
	if err != nil {
		return err
	}
	if mine {
		e := Exit{Code: 137, Stopped: true, Error: "stopped before it was started", At: time.Now()}
		if err := WriteExit(dir, e); err != nil {
			return err
		}
	} else if err := writeJSON(dir, stopFile, o); err != nil {
		return err
	}
	for signaled := false; ; {
		gone, err := w.Gone(ctx, 0)
		if err != nil || gone {
			return err
		}
		// An init that has just claimed the step says who it is in a moment; one
		// that lost the claim leaves in a moment.
		id, ok, err := ReadIdentity(dir)
		if err != nil {
			return err
		}
		if ok && !signaled {
			if err := signalInit(id); err != nil {
				return err
			}
			signaled = true
		}
		wait := pause
		if signaled {
			wait = -1
		}
		if gone, err := w.Gone(ctx, wait); err != nil || gone {
			return err
		}
	}
}
