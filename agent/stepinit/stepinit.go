// Package stepinit is the parent of a step's processes: it starts the command
// in a session of its own, writes its output into a spool file, keeps its exit
// code, and leaves nothing of it behind. It outlives the agent; both meet only
// in files of one folder:
//
//	spec.json  what to run; written by the agent before it spawns an init
//	alive      a FIFO that the init holds open: end of file means that it is gone
//	claim      made once, O_EXCL: whoever makes it decides whether user code runs
//	init.json  who the init is: pid, start time and boot id
//	log        the spool of the output (spool.go), and log.cut, where it now begins
//	stop.json  the agent's order to end the step; a SIGTERM says that it is there
//	exit.json  how it ended; there by rename, after everything is in the log
//
// The life of an init:
//
//	open alive ── claim taken by another ──> leave quietly
//	    │ claimed
//	init.json, start the command ── cannot ──> exit.json with 126 or 127
//	    │
//	  reap ──SIGTERM──> signal the tree ──grace over──> kill the tree, again until the command is gone
//	    │ the command ended
//	  end what it left behind (100 ms after SIGTERM, then SIGKILL), drain the pipes, exit.json
//
// In a container it is only pid 1 (pid1.go): the engine keeps the output and the
// exit code, and the kernel ends what is left behind.
package stepinit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The files of a step's folder.
const (
	SpecFile  = "spec.json" // holds a Spec
	aliveFile = "alive"
	claimFile = "claim"
	initFile  = "init.json"
	logFile   = "log"
	cutFile   = "log.cut"
	stopFile  = "stop.json"
	exitFile  = "exit.json"
)

// LogPath is where the spool of the step in dir lies.
func LogPath(dir string) string { return filepath.Join(dir, logFile) }

// Spec is what an init runs.
type Spec struct {
	Argv []string // Argv[0] is looked up in the PATH of Env
	Env  []string // complete
	Dir  string   // working directory
	// Cgroups are folders of control groups, made by the agent, that the command
	// starts in: one folder per controller of version 1, or one of version 2.
	Cgroups []string
	Unified bool // Cgroups has one folder of version 2
}

// Identity is how an init is found again: a pid alone may be anybody's by now.
type Identity struct {
	Pid   int
	Start uint64 // of the process, in clock ticks since boot
	Boot  string // the kernel's boot id
	// Main is the command's own process, the leader of its session. It is 0
	// until the command has started.
	Main      int
	MainStart uint64
}

// Order is what Stop wants of an init.
type Order struct {
	Signal int
	Grace  time.Duration
}

// Exit is how a step ended.
type Exit struct {
	Code    int    // 128 + signal when a signal ended the command
	Signal  int    // or 0
	Stopped bool   // an order to stop came before the end
	OOM     bool   // the memory limit of its control group killed something
	Error   string // why the command could not be started
	Lost    int64  // bytes of output that could not be written
	At      time.Time
}

// WriteSpec makes the folder ready for an init; it may be repeated.
func WriteSpec(dir string, s Spec) error {
	if err := unix.Mkfifo(filepath.Join(dir, aliveFile), 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot make the FIFO of %s: %w", dir, err)
	}
	return writeJSON(dir, SpecFile, s)
}

// Claim tells whether the caller is the first to claim the step: only the
// claimer may run it, or decide that it never runs.
func Claim(dir string) (bool, error) {
	f, err := os.OpenFile(filepath.Join(dir, claimFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot claim the step in %s: %w", dir, err)
	}
	return true, f.Close()
}

// Claimed tells whether the step was started, or stopped before it started.
func Claimed(dir string) (bool, error) {
	_, err := os.Lstat(filepath.Join(dir, claimFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// ReadExit returns how the step ended; ok is false while there is no record.
func ReadExit(dir string) (e Exit, ok bool, err error) {
	ok, err = readJSON(dir, exitFile, &e)
	return e, ok, err
}

// WriteExit records how the step ended.
func WriteExit(dir string, e Exit) error { return writeJSON(dir, exitFile, e) }

// ReadIdentity returns who the init is; ok is false before it has said so.
func ReadIdentity(dir string) (id Identity, ok bool, err error) {
	ok, err = readJSON(dir, initFile, &id)
	return id, ok, err
}

// BootID is the kernel's id of this boot.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("cannot read the boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

func writeJSON(dir, name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("cannot encode %s: %w", name, err)
	}
	f, err := os.CreateTemp(dir, name+".*")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", name, err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return fmt.Errorf("cannot write %s in %s: %w", name, dir, errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

func readJSON(dir, name string, v any) (bool, error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		return false, fmt.Errorf("cannot read %s in %s: %w", name, dir, err)
	}
	return true, nil
}
