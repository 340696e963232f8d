package agent

import (
	"cmp"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/objectstore"
	"github.com/slipway-ci/slipway/shared/pki"
)

// Config is what an agent is made of.
type Config struct {
	// Dir is the agent's own folder: journal, logs, mirrors, workspaces,
	// caches. Its path is seen inside of containers too. Required.
	Dir string
	// RuntimeDir holds sockets, so its path is short; default /run/slipway for
	// root, $XDG_RUNTIME_DIR/slipway, or a folder of the user's below /tmp.
	RuntimeDir string
	// Identity is the agent's certificate; it names agent and cluster. Required.
	Identity *pki.Source
	Name     string // for people; default the host's name
	Version  string

	Queues    []string          // default "default"
	Tags      map[string]string // beside os, arch, hostname and docker
	Slots     int               // steps at once; default the number of cores, at least 2
	Capacity  ci.Resources      // what steps may reserve; zero fields are the host's
	Executors []string          // docker, process; default docker
	StepEnv   map[string]string // added to every step: proxies and the like

	DockerHost  string   // default what DOCKER_HOST says, or the usual socket
	ProcessInit []string // command line of stepinit; default the program itself

	Bucket objectstore.Config

	GossipBind string          // IP:port, port 0 for any free one
	GossipKey  []byte          // required
	Seeds      func() []string // gossip addresses to join through

	// CancelOnStop is asked when the agent is stopped: true cancels the steps
	// with reason agent_shutdown and waits for them; false, or nil, lets them run
	// on, and the next agent over the same Dir takes them up.
	CancelOnStop func() bool
	// Ready is called once the agent has registered with a coordinator; nil is allowed.
	Ready func(Info)
	Log   *slog.Logger
}

// Info is what an agent found out about itself.
type Info struct {
	ID        ci.AgentID
	Name      string
	Executors []string
	Docker    string // the engine's version, empty without one
	Gossip    string // address
}

// withDefaults fills what may be left out and refuses what must not.
func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Dir == "":
		return c, ci.FieldErrorf(ci.Invalid, "dir", "cannot run an agent without a folder of its own")
	case c.Identity == nil:
		return c, ci.FieldErrorf(ci.Invalid, "identity", "cannot run an agent without a certificate")
	case c.Identity.Identity().Role != pki.RoleAgent:
		return c, ci.FieldErrorf(ci.Invalid, "identity", "cannot run an agent as %s", c.Identity.Identity())
	case c.Log == nil:
		return c, ci.FieldErrorf(ci.Invalid, "log", "cannot run an agent without a log")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return c, ci.Errorf(ci.Invalid, "cannot use %q as the agent's folder: %w", c.Dir, err)
	}
	c.Dir = dir
	if c.RuntimeDir == "" {
		c.RuntimeDir = runtimeDir(os.Getuid(), os.Getenv("XDG_RUNTIME_DIR"))
	}
	if len(c.Queues) == 0 {
		c.Queues = []string{"default"}
	}
	if len(c.Executors) == 0 {
		c.Executors = []string{ci.ExecutorDocker}
	}
	for _, e := range c.Executors {
		if e != ci.ExecutorDocker && e != ci.ExecutorProcess {
			return c, ci.FieldErrorf(ci.Invalid, "executors", "cannot run an agent with the executor %q: there are docker and process", e)
		}
	}
	c.Bucket.Region = cmp.Or(c.Bucket.Region, "us-east-1")
	c.Slots = cmp.Or(c.Slots, max(2, runtime.NumCPU()))
	return c, nil
}

// has reports whether the agent shall have the executor.
func (c Config) has(executor string) bool { return slices.Contains(c.Executors, executor) }

func runtimeDir(uid int, xdg string) string {
	switch {
	case uid == 0:
		return "/run/slipway"
	case xdg != "":
		return filepath.Join(xdg, "slipway")
	default:
		return filepath.Join(os.TempDir(), "slipway-"+strconv.Itoa(uid))
	}
}

// owned refuses a folder for sockets that another user made first, as anybody
// can below /tmp: who owns it could put a socket of theirs in a step's way.
func owned(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return ci.Errorf(ci.Invalid, "cannot use %s for sockets: %w", dir, err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if ok && st.Uid != 0 && int(st.Uid) != os.Getuid() {
		return ci.Errorf(ci.Invalid, "cannot use %s for sockets: it belongs to user %d; remove it, or set XDG_RUNTIME_DIR", dir, st.Uid)
	}
	return nil
}

// capacity lays what is configured over what the host has.
func capacity(host, configured ci.Resources) ci.Resources {
	return ci.Resources{
		MilliCPU: cmp.Or(configured.MilliCPU, host.MilliCPU),
		Memory:   cmp.Or(configured.Memory, host.Memory),
		Disk:     cmp.Or(configured.Disk, host.Disk),
		Pids:     cmp.Or(configured.Pids, host.Pids),
	}
}
