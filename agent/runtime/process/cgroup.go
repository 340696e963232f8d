package process

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-ci/slipway/agent/runtime"
)

// controllers that limits need.
var controllers = []string{"cpu", "memory", "pids"}

// groups is where control groups may be made.
type groups struct {
	unified bool              // version 2
	parents map[string]string // controller to folder; of version 2 all the same
	reason  string            // why some are missing
}

func (g groups) limits() []string {
	var out []string
	for _, c := range controllers {
		if g.parents[c] != "" {
			out = append(out, c)
		}
	}
	return out
}

// findGroups looks at where this process stands in the control groups and which
// of them it may divide.
func findGroups(parent string) groups {
	g := groups{parents: map[string]string{}}
	if parent == "-" {
		g.reason = "control groups are switched off"
		return g
	}
	points, err := cgroupMounts()
	if err != nil {
		g.reason = err.Error()
		return g
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		g.reason = err.Error()
		return g
	}
	for line := range bytes.Lines(own) {
		f := strings.SplitN(strings.TrimSpace(string(line)), ":", 3)
		if len(f) != 3 {
			continue
		}
		for _, c := range strings.Split(f[1], ",") {
			if point := points[c]; point != "" && c != "" && slices.Contains(controllers, c) {
				g.take(c, filepath.Join(point, f[2]))
			}
		}
		if point := points[""]; f[1] == "" && point != "" && len(g.parents) == 0 {
			if parent == "" {
				parent = filepath.Join(point, f[2])
			}
		}
	}
	if len(g.parents) == 0 && parent != "" {
		g.takeUnified(parent)
	}
	if len(g.parents) < len(controllers) && g.reason == "" {
		g.reason = "the agent may not make control groups here"
	}
	return g
}

// take notes a controller whose folder is writable.
func (g *groups) take(controller, dir string) {
	if unix.Access(dir, unix.W_OK) != nil {
		g.reason = "the agent may not write to " + dir
		return
	}
	g.parents[controller] = dir
}

// takeUnified takes the controllers that dir hands down. A group with processes
// of its own cannot hand down any, so an agent needs a group set apart for it
// (Delegate=yes and a configured folder).
func (g *groups) takeUnified(dir string) {
	if unix.Access(dir, unix.W_OK) != nil {
		g.reason = "the agent may not write to " + dir
		return
	}
	file := filepath.Join(dir, "cgroup.subtree_control")
	for _, c := range controllers {
		if err := os.WriteFile(file, []byte("+"+c), 0); err != nil {
			g.reason = fmt.Sprintf("%s cannot hand down %s", dir, c)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		g.reason = err.Error()
		return
	}
	g.unified = true
	for _, c := range strings.Fields(string(b)) {
		if slices.Contains(controllers, c) {
			g.parents[c] = dir
		}
	}
}

// cgroupMounts finds where each controller of version 1 is mounted, and the
// unified hierarchy under the empty name.
func cgroupMounts() (map[string]string, error) {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := map[string]string{}
	for sc := bufio.NewScanner(f); sc.Scan(); {
		fields := strings.Fields(sc.Text())
		if len(fields) < 4 {
			continue
		}
		switch fields[2] {
		case "cgroup2":
			out[""] = fields[1]
		case "cgroup":
			for _, opt := range strings.Split(fields[3], ",") {
				if slices.Contains(controllers, opt) {
					out[opt] = fields[1]
				}
			}
		}
	}
	return out, nil
}

// create makes the groups that the step's resources need and returns their
// folders; none when it has no limits, or where none can be kept.
func (g groups) create(s runtime.Spec) ([]string, error) {
	var dirs []string
	for _, l := range g.wanted(s) {
		parent := g.parents[l.controller]
		if parent == "" {
			continue
		}
		dir := filepath.Join(parent, "slipway-"+string(s.Attempt))
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return dirs, err
		}
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
		for _, kv := range l.files {
			err := os.WriteFile(filepath.Join(dir, kv.name), []byte(kv.value), 0)
			if err != nil && !kv.optional {
				return dirs, err
			}
		}
	}
	return dirs, nil
}

type limit struct {
	controller string
	files      []setting
}

type setting struct {
	name, value string
	optional    bool // the kernel may lack it
}

const cpuPeriod = 100_000 // microseconds

func (g groups) wanted(s runtime.Spec) []limit {
	var out []limit
	num := func(n int64) string { return strconv.FormatInt(n, 10) }
	if n := s.Resources.Memory; n > 0 {
		files := []setting{{"memory.limit_in_bytes", num(n), false}, {"memory.memsw.limit_in_bytes", num(n), true}}
		if g.unified {
			files = []setting{{"memory.max", num(n), false}, {"memory.swap.max", "0", true}}
		}
		out = append(out, limit{"memory", files})
	}
	if n := s.Resources.Pids; n > 0 {
		out = append(out, limit{"pids", []setting{{"pids.max", num(n), false}}})
	}
	if n := s.Resources.MilliCPU; n > 0 {
		quota := num(n * cpuPeriod / 1000)
		files := []setting{{"cpu.cfs_period_us", num(cpuPeriod), false}, {"cpu.cfs_quota_us", quota, false}}
		if g.unified {
			files = []setting{{"cpu.max", quota + " " + num(cpuPeriod), false}}
		}
		out = append(out, limit{"cpu", files})
	}
	return out
}

// removeGroups deletes what create made. The kernel needs a moment to see that a
// group is empty.
func removeGroups(ctx context.Context, dirs []string) error {
	for _, dir := range dirs {
		for try := 0; ; try++ {
			err := syscall.Rmdir(dir)
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				break
			}
			if !errors.Is(err, unix.EBUSY) || try == 200 {
				return fmt.Errorf("cannot remove the control group %s: %w", dir, err)
			}
			if err := sleep(ctx, 10*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}
