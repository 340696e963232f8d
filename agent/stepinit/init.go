package stepinit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// Env, set to 1, makes a program that calls MaybeMain an init.
	Env = "SLIPWAY_INIT"
	// Verb is the first argument of an init; the folder is the second.
	Verb = "run"

	// replyFD is where an init tells its starter how far it came.
	replyFD = 3
	// leftoverGrace is what processes get that outlive the command.
	leftoverGrace = 100 * time.Millisecond
	// drainGrace is how long a pipe is read that somebody outside the tree holds.
	drainGrace = 2 * time.Second
	// defaultGrace is for a SIGTERM that comes without an order.
	defaultGrace = 10 * time.Second
)

// What an init answers its starter.
const (
	replyStarted = "started"
	replyTaken   = "taken" // another init, or a stop, claimed the step
)

// MaybeMain makes the process an init, and does not return, when it was started
// as one. It must be the first thing in main, and in TestMain of a package that
// runs process steps: a program without a slipway-init beside it starts itself.
func MaybeMain() {
	if os.Getenv(Env) == "1" && len(os.Args) == 3 && os.Args[1] == Verb {
		os.Exit(Main(os.Args[2]))
	}
}

// Main runs the step in dir as its init and returns the init's own exit code,
// which says nothing of the step's.
func Main(dir string) int {
	// The kernel kills the command when the thread that started it ends.
	runtime.LockOSThread()
	reply := os.NewFile(replyFD, "reply")
	unix.CloseOnExec(replyFD)
	closeStrays()
	answer, err := run(dir, reply)
	if err != nil {
		answer = "error: " + err.Error()
		fmt.Fprintln(os.Stderr, "slipway-init:", err)
	}
	// Nobody may listen any more.
	_, _ = io.WriteString(reply, answer)
	if err != nil {
		return 1
	}
	return 0
}

// closeStrays closes what somebody before the agent left open for its children:
// a pipe that a step holds for hours makes its reader wait for hours. What this
// program itself opens is closed on exec, which tells one from the other.
func closeStrays() {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd <= replyFD {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(fd)
		}
	}
}

// keeper is an init at work.
type keeper struct {
	dir     string
	self    int
	main    int
	status  syscall.WaitStatus
	ended   time.Time // of the command; zero while it runs
	alone   bool      // no child is left
	stopped bool
	sigs    chan os.Signal
}

func run(dir string, reply *os.File) (answer string, err error) {
	k := &keeper{dir: dir, self: os.Getpid(), sigs: make(chan os.Signal, 64)}
	// Caught, not ignored: what is ignored the command would inherit.
	signal.Notify(k.sigs, unix.SIGCHLD, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return "", fmt.Errorf("cannot become a subreaper: %w", err)
	}
	// Opened for both ways, a FIFO needs no reader; it stays open until the end.
	alive, err := os.OpenFile(filepath.Join(dir, aliveFile), os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("cannot open the FIFO: %w", err)
	}
	defer runtime.KeepAlive(alive)
	var spec Spec
	if ok, err := readJSON(dir, SpecFile, &spec); err != nil || !ok {
		return "", fmt.Errorf("cannot run the step in %s: no usable %s: %w", dir, SpecFile, err)
	}
	if mine, err := Claim(dir); err != nil || !mine {
		return replyTaken, err
	}
	// From here on every end is a record: the agent will not start another init.
	exit, err := k.live(spec, reply)
	if err != nil {
		exit = Exit{Code: 126, Error: err.Error(), At: time.Now()}
	}
	return replyStarted, errors.Join(err, WriteExit(dir, exit))
}

// live runs the command from start to end.
func (k *keeper) live(spec Spec, reply *os.File) (Exit, error) {
	id, err := k.identify()
	if err != nil {
		return Exit{}, err
	}
	log, err := newSpool(k.dir)
	if err != nil {
		return Exit{}, err
	}
	pipes, err := k.start(spec)
	if err != nil {
		_, closeErr := log.close()
		return startFailure(spec, err), closeErr
	}
	id.Main = k.main
	if p, err := stat(k.main); err == nil {
		id.MainStart = p.start
	}
	if err := writeJSON(k.dir, initFile, id); err != nil {
		// Only a sweep after this init was killed would need it.
		fmt.Fprintln(os.Stderr, "slipway-init:", err)
	}
	_, _ = io.WriteString(reply, replyStarted)

	var pumps sync.WaitGroup
	pumps.Go(func() { pump(pipes[0], 0, log) })
	pumps.Go(func() { pump(pipes[1], flagStderr, log) })
	k.watch()
	k.clear()
	for _, p := range pipes {
		// The tree is gone, so this only matters when a stranger holds the pipe.
		_ = p.SetReadDeadline(time.Now().Add(drainGrace))
	}
	pumps.Wait()
	exit := k.exit(spec)
	exit.Lost, err = log.close()
	return exit, err
}

// identify writes who we are, before there is anything to be found.
func (k *keeper) identify() (Identity, error) {
	boot, err := BootID()
	if err != nil {
		return Identity{}, err
	}
	p, err := stat(k.self)
	if err != nil {
		return Identity{}, fmt.Errorf("cannot read our own start time: %w", err)
	}
	id := Identity{Pid: k.self, Start: p.start, Boot: boot}
	return id, writeJSON(k.dir, initFile, id)
}

// exit makes the record of a command that ended.
func (k *keeper) exit(spec Spec) Exit {
	e := Exit{Code: k.status.ExitStatus(), Stopped: k.stopped, At: k.ended}
	if k.status.Signaled() {
		e.Signal = int(k.status.Signal())
		e.Code = 128 + e.Signal
	}
	e.OOM = e.Code != 0 && oomKills(spec) > 0
	return e
}

// watch returns once the command itself has ended.
func (k *keeper) watch() {
	grace := time.NewTimer(time.Hour)
	grace.Stop()
	defer grace.Stop()
	for {
		k.reap()
		if !k.ended.IsZero() {
			return
		}
		select {
		case sig := <-k.sigs:
			if sig == unix.SIGTERM || sig == unix.SIGINT {
				grace.Reset(k.obey())
			}
		case <-grace.C:
			k.say(killTree(k.self))
			grace.Reset(10 * pause) // until it is gone
		}
	}
}

// obey does the first half of a stop and returns the grace of the second.
func (k *keeper) obey() time.Duration {
	order := Order{Signal: int(unix.SIGTERM), Grace: defaultGrace}
	if _, err := readJSON(k.dir, stopFile, &order); err != nil {
		k.say(err)
	}
	k.stopped = true
	if order.Signal == int(unix.SIGKILL) {
		return 0
	}
	k.say(signalTree(k.self, unix.Signal(order.Signal)))
	return order.Grace
}

// clear ends whatever the command left behind and returns once nothing is left.
func (k *keeper) clear() {
	if k.reap(); k.alone {
		return
	}
	k.say(signalTree(k.self, unix.SIGTERM))
	next := time.NewTimer(leftoverGrace)
	defer next.Stop()
	for {
		select {
		case <-k.sigs:
		case <-next.C:
			k.say(killTree(k.self))
			next.Reset(10 * pause)
		}
		if k.reap(); k.alone {
			return
		}
	}
}

// reap collects every child that ended, the command and adopted orphans alike.
func (k *keeper) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil: // ECHILD
			k.alone = true
			return
		case pid == 0:
			return
		case pid == k.main:
			k.status, k.ended = status, time.Now()
		}
	}
}

func (k *keeper) say(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "slipway-init:", err)
	}
}
