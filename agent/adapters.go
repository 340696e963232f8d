package agent

import (
	"context"

	"github.com/slipway-ci/slipway/agent/cache"
	"github.com/slipway-ci/slipway/agent/checkout"
	"github.com/slipway-ci/slipway/agent/logship"
	"github.com/slipway-ci/slipway/agent/session"
	"github.com/slipway-ci/slipway/agent/supervisor"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/expr"
	"github.com/slipway-ci/slipway/shared/logpath"
	"github.com/slipway-ci/slipway/shared/wire"
)

// The parts of an agent do not know each other; what one needs of another is
// bridged here, and nothing is decided.

// sessionLine is supervisor.Session; s is set once both sides are made.
type sessionLine struct{ s *session.Session }

func (l *sessionLine) Accept(ctx context.Context, attempt ci.AttemptID, fence uint64) (bool, ci.Want, error) {
	return l.s.Accept(ctx, attempt, fence)
}

func (l *sessionLine) Report(ctx context.Context, r supervisor.Report) (bool, error) {
	return l.s.Report(ctx, wire.Report(r))
}

// sessionWork is session.Work.
type sessionWork struct{ s *supervisor.Supervisor }

func (w sessionWork) Set(at session.Index, full bool, assigned []wire.Assignment, removed []ci.AttemptID) {
	all := make([]supervisor.Assignment, 0, len(assigned))
	for _, a := range assigned {
		all = append(all, supervisor.Assignment(a))
	}
	w.s.Set(supervisor.Index(at), full, all, removed)
}

func (w sessionWork) Seen() session.Index { return session.Index(w.s.Seen()) }

func (w sessionWork) Progress() []wire.Progress {
	var all []wire.Progress
	for _, p := range w.s.Progress() {
		all = append(all, wire.Progress(p))
	}
	return all
}

// workspaces is supervisor.Workspaces.
type workspaces struct{ m *checkout.Manager }

func (w workspaces) Prepare(ctx context.Context, a *supervisor.Assignment, tell func(string)) (supervisor.Workspace, error) {
	ws, err := w.m.Prepare(ctx, checkout.Request{
		Attempt: a.Attempt, Tenant: a.Tenant, Workflow: a.Workflow, Step: a.Step.ID,
		Source: a.Source, Checkout: a.Step.Checkout,
	}, tell)
	return supervisor.Workspace(ws), err
}

func (w workspaces) Adopt(attempt ci.AttemptID, ws supervisor.Workspace) { w.m.Adopt(attempt, ws.Dir) }

func (w workspaces) Release(attempt ci.AttemptID) error { return w.m.Release(attempt) }

// cacheLeases is supervisor.Caches.
type cacheLeases struct{ m *cache.Manager }

func (c cacheLeases) Acquire(ctx context.Context, a *supervisor.Assignment, workspace string, tell func(string)) ([]supervisor.CacheLease, error) {
	specs := make([]ci.CacheSpec, 0, len(a.Step.Caches))
	for _, spec := range a.Step.Caches {
		key, err := expr.ResolveHashes(spec.Key, func(globs []string) (string, error) { return hashFiles(workspace, globs) })
		if err != nil {
			return nil, err
		}
		spec.Key = key
		specs = append(specs, spec)
	}
	mounts, err := c.m.Acquire(ctx, cacheRequest(a, specs), tell)
	if err != nil {
		return nil, err
	}
	leases := make([]supervisor.CacheLease, 0, len(mounts))
	for i, m := range mounts {
		leases = append(leases, supervisor.CacheLease{Spec: specs[i], Source: m.Source, Target: m.Target})
	}
	return leases, nil
}

func (c cacheLeases) Adopt(a *supervisor.Assignment, leases []supervisor.CacheLease) {
	specs := make([]ci.CacheSpec, 0, len(leases))
	for _, l := range leases {
		specs = append(specs, l.Spec)
	}
	c.m.Adopt(cacheRequest(a, specs))
}

func (c cacheLeases) Release(attempt ci.AttemptID, passed bool) { c.m.Release(attempt, passed) }

func cacheRequest(a *supervisor.Assignment, specs []ci.CacheSpec) cache.Request {
	return cache.Request{
		Attempt: a.Attempt, Seed: []byte(a.CacheSeed), Tenant: a.Tenant,
		Workflow: a.Workflow, Step: a.Step.ID, Caches: specs,
	}
}

// logs is supervisor.Logs.
type logs struct{ s *logship.Shipper }

func (l logs) Open(attempt ci.AttemptID, dir string, path logpath.Path) (supervisor.Log, error) {
	log, err := l.s.Open(attempt, dir, path)
	if err != nil {
		return nil, err // not a typed nil
	}
	return log, nil
}
