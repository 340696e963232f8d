// Package host says what the machine under an agent is: which boot, how large,
// and what tags follow from it.
package host

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-ci/slipway/shared/ci"
)

// bootIDFile changes with every boot of the kernel.
const bootIDFile = "/proc/sys/kernel/random/boot_id"

// pidsPerCore is what a host offers of processes, for each core.
const pidsPerCore = 4096

// Info is what there is to know of a host.
type Info struct {
	BootID   string
	Hostname string
	Capacity ci.Resources
}

// Read looks at the host. Dir is where the agent keeps its files: its disk is
// the one that counts.
func Read(dir string) (Info, error) {
	boot, err := os.ReadFile(bootIDFile)
	if err != nil {
		return Info{}, fmt.Errorf("cannot tell this boot of the host from others: %w", err)
	}
	name, err := os.Hostname()
	if err != nil {
		return Info{}, fmt.Errorf("cannot read the host's name: %w", err)
	}
	var sys unix.Sysinfo_t
	if err := unix.Sysinfo(&sys); err != nil {
		return Info{}, fmt.Errorf("cannot read the host's memory: %w", err)
	}
	disk, _, err := diskOf(dir)
	if err != nil {
		return Info{}, err
	}
	cores := int64(runtime.NumCPU())
	return Info{
		BootID: strings.TrimSpace(string(boot)), Hostname: name,
		Capacity: ci.Resources{
			MilliCPU: 1000 * cores, Memory: int64(sys.Totalram) * int64(sys.Unit), Disk: disk, Pids: pidsPerCore * cores,
		},
	}, nil
}

// diskOf returns size and free bytes of the disk below dir.
func diskOf(dir string) (size, free int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, fmt.Errorf("cannot read the size of the disk of %s: %w", dir, err)
	}
	return int64(st.Blocks) * st.Bsize, int64(st.Bavail) * st.Bsize, nil
}

// DiskFree returns the free part of the disk below dir, 0..1; 0 when nobody can tell.
func DiskFree(dir string) float64 {
	size, free, err := diskOf(dir)
	if err != nil || size == 0 {
		return 0
	}
	return float64(free) / float64(size)
}

// Tags returns the tags that every agent has, below those that its
// configuration gives it. Docker is the engine's version, empty without one.
func (i Info) Tags(docker string, configured map[string]string) map[string]string {
	tags := map[string]string{"os": runtime.GOOS, "arch": runtime.GOARCH, "hostname": i.Hostname}
	if docker != "" {
		tags["docker"] = docker
	}
	maps.Copy(tags, configured)
	return tags
}

// Boottime returns the time since the host's boot, suspensions included. It
// goes on while an agent restarts and knows no leaps.
func Boottime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("no CLOCK_BOOTTIME: " + err.Error()) // every Linux of this century has it
	}
	return time.Duration(ts.Nano())
}
