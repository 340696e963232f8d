package stepinit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// process is one line of /proc.
type process struct {
	pid, parent, session int
	state                byte
	start                uint64 // clock ticks since boot
}

// stat reads /proc/PID/stat. The command's name stands in parentheses and may
// hold anything, so fields are counted from the last one.
func stat(pid int) (process, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return process{}, err
	}
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) < 20 {
		return process{}, fmt.Errorf("cannot read /proc/%d/stat: %d fields", pid, len(f))
	}
	p := process{pid: pid, state: f[0][0]}
	var errs [3]error
	p.parent, errs[0] = strconv.Atoi(string(f[1]))
	p.session, errs[1] = strconv.Atoi(string(f[3]))
	p.start, errs[2] = strconv.ParseUint(string(f[19]), 10, 64)
	return p, errors.Join(errs[:]...)
}

// processes lists what runs; whatever ends meanwhile is left out.
func processes() ([]process, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	if err = errors.Join(err, d.Close()); err != nil {
		return nil, err
	}
	var out []process
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if p, err := stat(pid); err == nil && p.state != 'Z' && p.state != 'X' {
			out = append(out, p)
		}
	}
	return out, nil
}

// descendants lists all that descends from root. Since root is a subreaper,
// nothing leaves the tree: not by setsid, not by a double fork.
func descendants(root int) ([]int, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	children := make(map[int][]int, len(all))
	for _, p := range all {
		children[p.parent] = append(children[p.parent], p.pid)
	}
	// A zombie parent is not in the list, but its children are already root's.
	queue := children[root]
	for i := 0; i < len(queue); i++ {
		queue = append(queue, children[queue[i]]...)
	}
	return queue, nil
}

// signalTree sends sig to every descendant of root.
func signalTree(root int, sig unix.Signal) error {
	pids, err := descendants(root)
	if err != nil {
		return err
	}
	var errs []error
	for _, pid := range pids {
		if err := unix.Kill(pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("cannot send signal %d to process %d: %w", sig, pid, err))
		}
	}
	return errors.Join(errs...)
}

// killTree ends every descendant of root. They are stopped first, round after
// round until a round finds nobody new: what is stopped cannot fork any more.
func killTree(root int) error {
	known := map[int]bool{}
	for round := 0; round < 100; round++ {
		pids, err := descendants(root)
		if err != nil {
			return err
		}
		fresh := false
		for _, pid := range pids {
			if !known[pid] && unix.Kill(pid, unix.SIGSTOP) == nil {
				known[pid], fresh = true, true
			}
		}
		if !fresh {
			break
		}
	}
	return signalTree(root, unix.SIGKILL)
}

// Sweep kills what an init that was itself killed may have left: the members of
// the command's session and of its control groups. It returns how many it found.
func Sweep(id Identity, cgroups []string) (int, error) {
	boot, err := BootID()
	if err != nil {
		return 0, err
	}
	if id.Boot != "" && id.Boot != boot {
		return 0, nil
	}
	pids := map[int]bool{}
	if id.Main != 0 {
		all, err := processes()
		if err != nil {
			return 0, err
		}
		for _, p := range all {
			if p.pid == id.Main && p.start != id.MainStart {
				clear(pids) // the number is a stranger's now, and so is the session
				break
			}
			if p.session == id.Main {
				pids[p.pid] = true
			}
		}
	}
	for _, dir := range cgroups {
		b, err := os.ReadFile(dir + "/cgroup.procs")
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return 0, err
		}
		for _, f := range bytes.Fields(b) {
			if pid, err := strconv.Atoi(string(f)); err == nil && pid != os.Getpid() {
				pids[pid] = true
			}
		}
	}
	for pid := range pids {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return 0, fmt.Errorf("cannot kill process %d: %w", pid, err)
		}
	}
	return len(pids), nil
}

// signalInit sends SIGTERM to the init, if it still is the one that id names.
func signalInit(id Identity) error {
	fd, err := unix.PidfdOpen(id.Pid, 0)
	switch {
	case errors.Is(err, unix.ESRCH):
		return nil
	case errors.Is(err, unix.ENOSYS): // before Linux 5.3: check, then signal
		if p, err := stat(id.Pid); err != nil || p.start != id.Start {
			return nil
		}
		return unix.Kill(id.Pid, unix.SIGTERM)
	case err != nil:
		return fmt.Errorf("cannot reach init %d: %w", id.Pid, err)
	}
	// The descriptor pins whoever has the pid now; is it still the init?
	p, err := stat(id.Pid)
	if err == nil && p.start == id.Start {
		err = unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0)
	}
	if errors.Is(err, unix.ESRCH) || errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, unix.Close(fd))
}

// pause is the wait between two looks at something that no event announces.
const pause = 5 * time.Millisecond
