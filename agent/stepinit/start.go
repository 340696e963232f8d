package stepinit

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// start runs the command and returns the reading ends of its output and error.
func (k *keeper) start(spec Spec) ([2]*os.File, error) {
	var read, write [2]*os.File
	null, err := os.Open(os.DevNull)
	if err != nil {
		return read, err
	}
	for i := range read {
		var err error
		if read[i], write[i], err = os.Pipe(); err != nil {
			return read, err
		}
	}
	path, err := lookPath(spec)
	if err != nil {
		return read, err
	}
	sys := &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	leave, err := enterCgroups(spec, sys)
	if err != nil {
		return read, err
	}
	k.main, err = syscall.ForkExec(path, spec.Argv, &syscall.ProcAttr{
		Dir: spec.Dir, Env: spec.Env, Sys: sys,
		Files: []uintptr{null.Fd(), write[0].Fd(), write[1].Fd()},
	})
	return read, errors.Join(err, leave(), null.Close(), write[0].Close(), write[1].Close())
}

// lookPath finds the program as the step itself would, in its own PATH and from
// its own folder.
func lookPath(spec Spec) (string, error) {
	if len(spec.Argv) == 0 {
		return "", errors.New("no command")
	}
	name := spec.Argv[0]
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := ""
	for _, kv := range spec.Env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, name)
		if !filepath.IsAbs(file) {
			file = filepath.Join(spec.Dir, file)
		}
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("not found in PATH %q: %w", path, fs.ErrNotExist)
}

// startFailure is the record of a command that could not be started, with the
// code a shell would give.
func startFailure(spec Spec, err error) Exit {
	code := 126
	if errors.Is(err, fs.ErrNotExist) {
		code = 127
	}
	name := ""
	if len(spec.Argv) > 0 {
		name = spec.Argv[0]
	}
	if _, dirErr := os.Stat(spec.Dir); dirErr != nil {
		err = fmt.Errorf("the working directory: %w", dirErr)
	}
	return Exit{Code: code, Error: fmt.Sprintf("cannot start %q: %v", name, err), At: time.Now()}
}

// enterCgroups makes what is forked next by this thread start in the step's
// control groups. Version 2 has a flag of clone for it; in version 1 a child
// starts where its parent's thread is, so the thread goes there and comes back.
func enterCgroups(spec Spec, sys *syscall.SysProcAttr) (leave func() error, err error) {
	if len(spec.Cgroups) == 0 {
		return func() error { return nil }, nil
	}
	if spec.Unified {
		fd, err := unix.Open(spec.Cgroups[0], unix.O_DIRECTORY|unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("cannot open the control group %s: %w", spec.Cgroups[0], err)
		}
		sys.UseCgroupFD, sys.CgroupFD = true, fd
		return func() error { return unix.Close(fd) }, nil
	}
	move := func(where func(string) string) error {
		var errs []error
		for _, dir := range spec.Cgroups {
			file := filepath.Join(where(dir), "tasks")
			if err := os.WriteFile(file, []byte(strconv.Itoa(unix.Gettid())), 0); err != nil {
				errs = append(errs, fmt.Errorf("cannot enter the control group: %w", err))
			}
		}
		return errors.Join(errs...)
	}
	leave = func() error { return move(filepath.Dir) }
	if err := move(func(dir string) string { return dir }); err != nil {
		return nil, errors.Join(err, leave())
	}
	return leave, nil
}

// oomKills counts the processes that the memory limit of the step killed.
func oomKills(spec Spec) int {
	kills := 0
	for _, dir := range spec.Cgroups {
		for _, name := range []string{"memory.events", "memory.oom_control"} {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				continue // another controller, or the other version
			}
			for line := range bytes.Lines(b) {
				if n, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("oom_kill ")); ok {
					count, err := strconv.Atoi(string(n))
					if err == nil {
						kills += count
					}
				}
			}
		}
	}
	return kills
}
