// Package agent is the build host's side of the fleet: it wires what runs
// steps, what keeps their logs and files, and the line to the coordinators.
package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/slipway-ci/slipway/agent/cache"
	"github.com/slipway-ci/slipway/agent/checkout"
	"github.com/slipway-ci/slipway/agent/gateway/s3gate"
	"github.com/slipway-ci/slipway/agent/gateway/stepapi"
	"github.com/slipway-ci/slipway/agent/host"
	"github.com/slipway-ci/slipway/agent/logship"
	"github.com/slipway-ci/slipway/agent/session"
	"github.com/slipway-ci/slipway/agent/supervisor"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/gossip"
	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/logpath"
	"github.com/slipway-ci/slipway/shared/objectstore"
	"github.com/slipway-ci/slipway/shared/pki"
)

// stopWait bounds how long an agent that cancels its steps waits for them.
const stopWait = 20 * time.Second

// Run runs an agent until ctx ends.
func Run(ctx context.Context, cfg Config) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	for _, dir := range []string{cfg.Dir, cfg.RuntimeDir} {
		// Users of containers pass through it to their workspaces.
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return ci.Errorf(ci.Invalid, "cannot make the agent's folder: %w", err)
		}
	}
	if err := owned(cfg.RuntimeDir); err != nil {
		return err
	}
	defer os.Remove(cfg.RuntimeDir) // it stays while another agent has sockets there
	unlock, err := lock(filepath.Join(cfg.Dir, "lock"))
	if err != nil {
		return err
	}
	defer unlock()
	machine, err := host.Read(cfg.Dir)
	if err != nil {
		return err
	}
	rts, err := openRuntimes(ctx, cfg)
	if err != nil {
		return err
	}
	defer rts.close(ctx, cfg)
	doors, err := listen(cfg, rts.gateway)
	if err != nil {
		return err
	}
	defer doors.close() // what Serve has not closed
	bucket, err := objectstore.Open(ctx, cfg.Bucket)
	if err != nil {
		return err
	}
	defer bucket.Close()
	a := &agent{cfg: cfg, host: machine, bucket: bucket, runtimes: rts, doors: doors}
	if err := a.wire(); err != nil {
		return err
	}
	return a.run(ctx)
}

// agent is the parts of a running agent.
type agent struct {
	cfg      Config
	host     host.Info
	bucket   *objectstore.S3
	runtimes *runtimes
	doors    *doors

	gate    *s3gate.Gate
	api     *stepapi.Server
	gossip  *gossip.Gossip
	sup     *supervisor.Supervisor
	session *session.Session
}

func (a *agent) id() ci.AgentID { return ci.AgentID(a.cfg.Identity.Identity().NodeID) }

// wire makes the parts; nothing runs yet, but gossip, which has its sockets.
func (a *agent) wire() error {
	cfg, me := a.cfg, a.cfg.Identity.Identity()
	work := checkout.New(checkout.Config{Dir: cfg.Dir, Env: assignments(cfg.StepEnv), Archive: a.archive, Log: cfg.Log})
	caches := cache.New(cache.Config{Dir: filepath.Join(cfg.Dir, "cache"), Log: cfg.Log})
	ship := logship.New(logship.Config{Bucket: a.bucket, Log: cfg.Log})
	a.api = stepapi.New(cfg.RuntimeDir, cfg.Log)
	a.gate = s3gate.New(s3gate.Config{
		Upstream: a.bucket, Region: cfg.Bucket.Region, Log: cfg.Log,
		OnPut: func(attempt, name string) { a.sup.Hint(ci.AttemptID(attempt), name) },
	})
	line := &sessionLine{}
	var err error
	a.sup, err = supervisor.New(supervisor.Deps{
		Dir: cfg.Dir, BootID: a.host.BootID, Runtimes: a.runtimes.byExecutor,
		Session: line, Workspaces: workspaces{work}, Caches: cacheLeases{caches},
		S3: s3Door{a.gate, a.doors, cfg.Bucket.Region}, API: apiDoor{a.api}, Logs: logs{ship}, Store: ship,
		StepEnv: cfg.StepEnv, Boottime: host.Boottime, Log: cfg.Log,
	})
	if err != nil {
		return err
	}
	// What was adopted is held by now; all else is of attempts that are over.
	if err := errors.Join(work.Sweep(), caches.Sweep()); err != nil {
		cfg.Log.Warn("cannot sweep what earlier attempts left", "error", err)
	}
	a.gossip, err = gossip.Start(gossip.Config{
		NodeName: me.NodeID, Bind: cfg.GossipBind, Key: cfg.GossipKey, Cluster: me.Cluster, Seeds: cfg.Seeds, Log: cfg.Log,
		Meta: gossip.Meta{Version: cfg.Version, Role: string(pki.RoleAgent), NodeID: me.NodeID},
	})
	if err != nil {
		return err
	}
	a.session = session.New(session.Config{
		Agent: a.describe(), Cluster: me.Cluster,
		Coordinators: a.gossip.Coordinators, Found: a.gossip.Changed,
		TLS:  func() *tls.Config { return cfg.Identity.ClientConfig(pki.RoleCoordinator, "", pki.ProtoHTTP) },
		Work: sessionWork{a.sup}, News: a.sup.Changed(), Tail: ship,
		DiskFree: func() float64 { return host.DiskFree(cfg.Dir) }, Log: cfg.Log,
	})
	line.s = a.session
	return nil
}

// describe says what the agent is and has.
func (a *agent) describe() ci.Agent {
	name := a.cfg.Name
	if name == "" {
		name = a.host.Hostname
	}
	return ci.Agent{
		ID: a.id(), Name: name, BootID: a.host.BootID, Version: a.cfg.Version, Queues: a.cfg.Queues,
		Tags: a.host.Tags(a.runtimes.docker, a.cfg.Tags), Capacity: capacity(a.host.Capacity, a.cfg.Capacity),
		Slots: a.cfg.Slots, Executors: a.cfg.Executors,
	}
}

// archive opens the source of a dirty work tree.
func (a *agent) archive(ctx context.Context, tenant ci.TenantID, sha256 string) (io.ReadCloser, error) {
	return a.bucket.Get(ctx, logpath.Source(a.session.Root(), tenant, sha256), 0, -1)
}

// run starts everything, what others lean on first, and stops it in reverse.
func (a *agent) run(ctx context.Context) error {
	var g lifecycle.Group
	g.Add("gossip", a.gossip.Run)
	for executor, l := range a.doors.open {
		g.Add("S3 endpoint for "+executor+" steps", func(ctx context.Context) error { return a.gate.Serve(ctx, l) })
	}
	g.Add("step API", a.api.Run)
	// Workers report over the session, but live on without it: it goes first.
	g.Add("supervisor", a.sup.Run)
	g.Add("session", a.session.Run)
	g.Add("ready", a.ready)
	g.Add("shutdown", a.shutdown) // last in, so that it goes while all else still works
	return g.Run(ctx)
}

// ready tells when the agent has registered.
func (a *agent) ready(ctx context.Context) error {
	if err := a.session.Connected(ctx); err != nil || a.cfg.Ready == nil {
		return nil //nolint:nilerr // it was stopped before
	}
	d := a.describe()
	a.cfg.Ready(Info{ID: d.ID, Name: d.Name, Executors: d.Executors, Docker: a.runtimes.docker, Gossip: a.gossip.Addr()})
	return nil
}

// shutdown ends the steps of an agent that does not leave them running.
func (a *agent) shutdown(ctx context.Context) error {
	<-ctx.Done()
	if a.cfg.CancelOnStop == nil || !a.cfg.CancelOnStop() {
		return nil
	}
	a.sup.CancelAll(ci.ReasonAgentShutdown)
	wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWait)
	defer cancel()
	if err := a.sup.Idle(wait); err != nil {
		a.cfg.Log.Warn("steps are left behind; the next agent takes them up", "error", err)
	}
	return nil
}

// assignments renders variables as KEY=VALUE.
func assignments(vars map[string]string) []string {
	out := make([]string, 0, len(vars))
	for k, v := range vars {
		out = append(out, k+"="+v)
	}
	return out
}
