// Package docker runs steps in containers of a Docker engine, from 20.10 (API
// 1.41) on. What it makes carries labels; it touches nothing without those of
// its own cluster and agent, since several agents may share an engine.
//
// One step costs seven calls: inspect the image, create, start, wait, inspect
// once for how it ended, read the log, remove; and two more look whether the log
// was read to its end.
package docker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/client"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/lifecycle"
)

// Name is what the runtime's handles carry.
const Name = "docker"

// The labels of everything that is made here.
const (
	LabelCluster = "io.slipway.cluster"
	LabelAgent   = "io.slipway.agent"
	LabelTenant  = "io.slipway.tenant"
	LabelRun     = "io.slipway.run"
	LabelStep    = "io.slipway.step"
	LabelAttempt = "io.slipway.attempt"
	labelImage   = "io.slipway.image"
	labelDigest  = "io.slipway.digest"
)

// Config is what the runtime needs.
type Config struct {
	// Host is the engine's address, such as unix:///var/run/docker.sock; default
	// is what DOCKER_HOST says, and that socket.
	Host    string
	Cluster string // id of the cluster
	Agent   ci.AgentID
	// Network is the name of the bridge that steps are attached to; default
	// slipway- and the last 8 characters of the agent's id. It is made when first
	// needed and deleted by Close.
	Network string
	// Init is the path on the host of a static slipway-init that all may read and
	// execute, and that stays there as long as steps do: pid 1 of every step. Empty
	// makes the step's command pid 1 itself.
	Init string
	Log  *slog.Logger // default: nothing is logged
}

// Runtime runs steps in containers. It is a runtime.Runtime.
type Runtime struct {
	cfg Config
	api *client.Client
	// connect makes another client of the same engine.
	connect func() (*client.Client, error)

	netMu   sync.Mutex
	gateway string // of the network, once it is known to be there

	// creates are calls that outlive who asked for them.
	creates *lifecycle.Tasks

	mu    sync.Mutex
	memos map[ci.AttemptID]*memo
}

// memo is what this process remembers of an attempt until its Remove; nothing
// depends on it but calls saved and the reason of an exit.
type memo struct {
	creating chan struct{} // holds a value while the engine makes the container
	start    sync.Mutex    // one Start at a time
	fresh    atomic.Bool   // created by us and never started
	started  atomic.Bool   // by us
	stopping atomic.Bool   // ended by us, so that 137 is no riddle
	// ended is over once Wait has seen the end; a follow of the log then has
	// followGrace left, since engines have been seen to let it hang.
	ended context.Context
	end   context.CancelFunc
}

const followGrace = 10 * time.Second

var _ runtime.Runtime = (*Runtime)(nil)

// New makes the runtime; it does not speak to the engine yet.
func New(cfg Config) (*Runtime, error) {
	if cfg.Cluster == "" || cfg.Agent == "" {
		return nil, ci.Errorf(ci.Invalid, "cannot use Docker without the ids of the cluster and the agent: they label what is made")
	}
	connect := func() (*client.Client, error) {
		opts := []client.Opt{client.FromEnv}
		if cfg.Host != "" {
			opts = append(opts, client.WithHost(cfg.Host))
		}
		return client.NewClientWithOpts(append(opts, client.WithAPIVersionNegotiation())...)
	}
	api, err := connect()
	if err != nil {
		return nil, ci.Errorf(ci.Invalid, "cannot use the Docker engine at %q: %w", cfg.Host, err)
	}
	if cfg.Network == "" {
		id := string(cfg.Agent)
		cfg.Network = "slipway-" + id[max(0, len(id)-8):]
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Runtime{
		cfg: cfg, api: api, connect: connect, memos: map[ci.AttemptID]*memo{},
		creates: lifecycle.NewTasks(context.Background()), //nolint:forbidigo // until Close
	}, nil
}

// Info says what the engine is.
type Info struct {
	Version string // of the engine
	API     string // version that is spoken
	CPUs    int
	Memory  int64  // bytes
	Driver  string // of control groups
	// LiveRestore says whether containers survive a restart of the engine.
	LiveRestore bool
}

// Ping asks the engine who it is.
func (r *Runtime) Ping(ctx context.Context) (Info, error) {
	info, err := r.api.Info(ctx)
	if err != nil {
		return Info{}, ci.Errorf(ci.Unavailable, "cannot reach the Docker engine at %s: %w", r.api.DaemonHost(), err)
	}
	return Info{
		Version: info.ServerVersion, API: r.api.ClientVersion(), CPUs: info.NCPU, Memory: info.MemTotal,
		Driver: info.CgroupDriver, LiveRestore: info.LiveRestoreEnabled,
	}, nil
}

// Close deletes the network unless a container uses it, and the connections to
// the engine.
func (r *Runtime) Close(ctx context.Context) error {
	return errors.Join(r.creates.Stop(), r.removeNetwork(ctx), r.api.Close())
}

// name is the container's; it makes a second Prepare find the first one's work.
func name(id ci.AttemptID) string { return "slipway-" + string(id) }

// ref is how the engine is told which container is meant. A handle without an
// id comes from an agent that crashed before it knew it.
func ref(h runtime.Handle) (string, error) {
	if h.ID != "" {
		return h.ID, nil
	}
	if h.Attempt == "" || strings.Contains(string(h.Attempt), "/") {
		return "", ci.Errorf(ci.Invalid, "cannot use the handle of attempt %q", h.Attempt)
	}
	return name(h.Attempt), nil
}

func (r *Runtime) memo(id ci.AttemptID) *memo {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.memos[id]
	if m == nil {
		m = &memo{creating: make(chan struct{}, 1)}
		m.ended, m.end = context.WithCancel(context.Background()) //nolint:forbidigo // an attempt lives until Remove, beyond the call that made it
		r.memos[id] = m
	}
	return m
}

func (r *Runtime) forget(id ci.AttemptID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.memos[id]; m != nil {
		m.end()
		delete(r.memos, id)
	}
}

// away tells whether err means that the engine does not answer, so that it pays
// to ask again. What it answers with 5xx is counted too: an engine that starts
// or stops says such things.
func away(ctx context.Context, err error) bool {
	return err != nil && ctx.Err() == nil && ci.KindOf(err) == ci.Internal && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) &&
		!errdefs.IsInvalidArgument(err) && !errdefs.IsPermissionDenied(err) && !errdefs.IsUnauthorized(err)
}

// backoff waits longer from try to try, at most 2 s.
type backoff struct{ d time.Duration }

func (b *backoff) wait(ctx context.Context) error {
	b.d = min(max(2*b.d, 10*time.Millisecond), 2*time.Second)
	t := time.NewTimer(b.d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// infra wraps an error that is neither the user's nor the image's.
func infra(err error, format string, args ...any) error {
	return &runtime.Problem{Reason: reasonOf(err), Err: fmt.Errorf("cannot "+format+": %w", append(args, err)...)}
}

func reasonOf(err error) ci.Reason {
	if strings.Contains(err.Error(), "no space left on device") {
		return ci.ReasonDiskFull
	}
	return ci.ReasonInfra
}
