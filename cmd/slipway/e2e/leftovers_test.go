//go:build e2e

package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// dockerThere tells once whether an engine answers; without one there is
// nothing to look for.
var dockerThere = sync.OnceValue(func() bool {
	return exec.Command("docker", "version").Run() == nil
})

// docker runs the docker client.
func docker(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// containers lists the fleet's containers, one a line.
func (f *fleet) containers() []string {
	f.t.Helper()
	if !dockerThere() || f.cluster == "" {
		return nil
	}
	return strings.Fields(docker(f.t, "ps", "-aq", "--no-trunc", "--filter", "label=io.slipway.cluster="+f.cluster))
}

// processes lists what runs on behalf of steps of the fleet: who has its
// folder on the command line, in the environment or below the feet.
func (f *fleet) processes() map[int]string {
	found := map[int]string{}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		f.t.Fatal(err)
	}
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() || pid == f.PID {
			continue
		}
		cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline")) // it may be gone by now
		env, _ := os.ReadFile(filepath.Join(dir, "environ"))
		cwd, _ := os.Readlink(filepath.Join(dir, "cwd"))
		mark := []byte(f.path("data"))
		if len(cmdline) == 0 || !bytes.Contains(cmdline, mark) && !bytes.Contains(env, mark) && !strings.HasPrefix(cwd, f.path("data")) {
			continue
		}
		found[pid] = strings.ReplaceAll(string(cmdline), "\x00", " ")
	}
	return found
}

// runtimeDir is where the agent's sockets lie.
func runtimeDir() string {
	if os.Getuid() == 0 {
		return "/run/slipway"
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "slipway")
	}
	return filepath.Join(os.TempDir(), "slipway-"+strconv.Itoa(os.Getuid()))
}

// socketFolder is where the socket of an attempt's step API lies.
func socketFolder(attempt string) string {
	sum := sha256.Sum256([]byte(attempt))
	return filepath.Join(runtimeDir(), hex.EncodeToString(sum[:4]))
}

// socketFolders are those of all attempts that the fleet knows of.
func (f *fleet) socketFolders() []string {
	f.t.Helper()
	var folders []string
	for _, id := range strings.Fields(f.must("runs", "ls", "--limit", "500", "-o", "name").stdout) {
		for _, s := range f.show(id).Steps {
			for _, a := range s.Attempts {
				folders = append(folders, socketFolder(a.ID))
			}
		}
	}
	return folders
}

// journalled are the attempts that the agent has in hand.
func (f *fleet) journalled() []string {
	names, err := filepath.Glob(f.path("data/agent/journal/*.json"))
	if err != nil {
		f.t.Fatal(err)
	}
	return slices.DeleteFunc(names, func(name string) bool { return filepath.Base(name) == "index.json" })
}

// leftovers names what steps that are over have left on the host.
func (f *fleet) leftovers(sockets []string) []string {
	f.t.Helper()
	left := f.journalled()
	for _, id := range f.containers() {
		out, _ := exec.Command("docker", "ps", "-a", "--filter", "id="+id, "--format", "{{.Names}} {{.Status}} {{.Labels}}").Output()
		left = append(left, "container "+strings.TrimSpace(string(out)))
	}
	for pid, what := range f.processes() {
		left = append(left, fmt.Sprintf("process %d %s", pid, what))
	}
	for _, folder := range sockets {
		if _, err := os.Stat(folder); err == nil {
			left = append(left, folder)
		}
	}
	for _, pattern := range []string{"agent/attempts/*", "agent/process/*", "agent/work/*/*/*"} {
		names, err := filepath.Glob(filepath.Join(f.path("data"), pattern))
		if err != nil {
			f.t.Fatal(err)
		}
		left = append(left, names...)
	}
	return left
}

// nothingLeft waits until nothing remains of steps that are over. The fleet
// must be idle.
func (f *fleet) nothingLeft() {
	f.t.Helper()
	sockets := f.socketFolders()
	var left []string
	defer func() {
		if len(left) > 0 {
			f.t.Logf("what remains:\n%s", strings.Join(left, "\n"))
		}
	}()
	f.eventually("nothing remains of the steps", func() bool {
		left = f.leftovers(sockets)
		return len(left) == 0
	})
}

// sweep removes what a fleet that was killed left behind.
func (f *fleet) sweep() {
	for _, name := range f.journalled() {
		_ = os.RemoveAll(socketFolder(strings.TrimSuffix(filepath.Base(name), ".json")))
	}
	for _, id := range f.containers() {
		_ = exec.Command("docker", "rm", "-f", id).Run()
	}
	for pid := range f.processes() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if !dockerThere() || f.cluster == "" {
		return
	}
	out, _ := exec.Command("docker", "network", "ls", "-q", "--filter", "label=io.slipway.cluster="+f.cluster).Output()
	for _, id := range strings.Fields(string(out)) {
		_ = exec.Command("docker", "network", "rm", id).Run()
	}
}
