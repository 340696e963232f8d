package stepinit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// ExecVerb is the first argument of an init that is pid 1 of a container; the
	// second is `--`, and the command follows.
	ExecVerb = "exec"
	// HeldVerb is what such an init becomes by Hide; the second argument is the
	// descriptor of a file that holds the command.
	HeldVerb = "held"
	// Unstarted begins the line on the standard error of such an init whose
	// command could not be started.
	Unstarted = "slipway-init: cannot start "
	// ExecUnusable is the exit code of an init that is given no command: what does
	// not answer so cannot be pid 1.
	ExecUnusable = 126
)

// Exec runs argv as the only child of a container's pid 1, which it is, and
// returns the exit code: the child's, 128 + signal when a signal ended it, 127 or
// 126 when it cannot be started. What the child leaves behind the kernel kills
// when pid 1 ends.
//
// The kernel keeps from a pid 1 every signal that it has no handler for, even its
// own SIGSEGV, and makes it the parent of all orphans; no shell expects either.
func Exec(argv []string) int {
	// Threads count against the step's limit of processes.
	runtime.GOMAXPROCS(1)
	k := &keeper{self: os.Getpid(), sigs: make(chan os.Signal, 64)}
	signal.Notify(k.sigs, catchable()...)
	if k.self != 1 {
		// Under an init of the engine's, or by hand.
		k.say(unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
	}
	dir, err := os.Getwd()
	if err != nil {
		dir = "." // only relative folders in PATH need it
	}
	spec := Spec{Argv: argv, Env: os.Environ(), Dir: dir}
	path, err := lookPath(spec)
	if err == nil {
		k.main, err = syscall.ForkExec(path, argv, &syscall.ProcAttr{
			Env: spec.Env, Files: []uintptr{0, 1, 2},
			// Leader of a session and a group, as it would be as pid 1.
			Sys: &syscall.SysProcAttr{Setsid: true},
		})
	}
	if err != nil {
		e := startFailure(spec, err)
		fmt.Fprintln(os.Stderr, "slipway-init:", e.Error)
		return e.Code
	}
	for {
		k.reap()
		if !k.ended.IsZero() {
			return k.exit(Spec{}).Code
		}
		if sig, ok := (<-k.sigs).(syscall.Signal); ok && sig != unix.SIGCHLD {
			k.forward(sig)
		}
	}
}

// Hide starts this program once more, with argv in a file: who looks for the
// command by its words (ps, pkill -f) finds it once, and does not hit pid 1. It
// returns only when that cannot be done, which matters little.
func Hide(argv []string) {
	if len(argv) == 0 {
		return
	}
	fd, err := unix.MemfdCreate("command", 0)
	if err != nil {
		return
	}
	f := os.NewFile(uintptr(fd), "command")
	if _, err := f.WriteString(strings.Join(argv, "\x00")); err == nil {
		_ = syscall.Exec("/proc/self/exe", []string{os.Args[0], HeldVerb, strconv.Itoa(fd)}, os.Environ())
	}
	_ = f.Close()
}

// Held returns what Hide put away.
func Held(descriptor string) ([]string, error) {
	fd, err := strconv.Atoi(descriptor)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "command")
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
	return strings.Split(string(b), "\x00"), errors.Join(err, f.Close())
}

// forward hands a signal on: one that asks for the end to all that runs, since a
// shell would see it only after the program it waits for, others to the command.
func (k *keeper) forward(sig syscall.Signal) {
	switch sig {
	case unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT:
		if k.self == 1 {
			_ = unix.Kill(-1, sig) // all of the container, in one go
			return
		}
		k.say(signalTree(k.self, sig))
	default:
		_ = unix.Kill(k.main, sig)
	}
}

// catchable lists the signals that can be handed on. SIGURG cannot: Go's runtime
// sends it to itself all the time.
func catchable() []os.Signal {
	var all []os.Signal
	for sig := unix.Signal(1); sig <= 64; sig++ {
		if sig != unix.SIGKILL && sig != unix.SIGSTOP && sig != unix.SIGURG {
			all = append(all, sig)
		}
	}
	return all
}
