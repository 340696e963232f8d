// Package api serves the API: what people and their tools ask of a coordinator.
// docs/api.md shows it by example.
package api

import (
	"context"
	"log/slog"
	"time"

	"connectrpc.com/connect"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/proto/slipway/v1/slipwayv1connect"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/logpath"
	"github.com/slipway-ci/slipway/shared/objectstore"
	"github.com/slipway-ci/slipway/shared/wire"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

// Store is the replicated state as the API reads it.
type Store interface {
	View() *state.View
	Watch() *state.Watcher
}

// Caller is who a call came from.
type Caller struct {
	Actor  ci.Actor
	Role   ci.Role
	Tenant ci.TenantID // the only one visible; empty is every tenant
}

// LogQuery says which part of an attempt's log to read.
type LogQuery struct {
	Path    logpath.Path
	Attempt ci.AttemptID
	Over    func() bool // the attempt is over by now
	From    int64       // record number
	Tail    int         // begin this many records before the end instead
	Limit   int         // records
	Wait    time.Duration
}

// LogPage is a part of a log.
type LogPage struct {
	Records []logpath.Record
	Next    int64
	End     bool
}

// Logs reads what attempts leave behind.
type Logs interface {
	Read(ctx context.Context, q LogQuery) (LogPage, error)
	ArtifactURL(ctx context.Context, p logpath.Path, name string, ttl time.Duration) (string, error)
}

// Uploads is where source archives go.
type Uploads interface {
	Stat(ctx context.Context, key string) (objectstore.Object, error)
	PutURL(ctx context.Context, key string, ttl time.Duration) (string, error)
}

// Explainer says why steps wait.
type Explainer interface {
	// Why is the scheduler's word on a queued step; false when it has none.
	Why(run ci.RunID, step string) (ci.WaitReason, bool)
	// Pending answers which steps a pending step of the run waits for.
	Pending(r *ci.Run) func(step string) []string
}

// Info is what GetInfo says of this node.
type Info struct {
	Node       string // id
	S3Endpoint string
	Registry   string
}

// Config is what an API needs.
type Config struct {
	Store     Store
	Proposer  state.Proposer
	Caller    func(context.Context) Caller
	Logs      Logs
	Uploads   Uploads
	Explainer Explainer
	// Leader names the leader's node address; false without one.
	Leader func() (addr string, ok bool)
	// Now is the cluster time.
	Now func() ci.ClusterTime
	// Ready returns why the node cannot serve yet, or nil.
	Ready func() error
	Root  string // s3://bucket/prefix/<cluster id>
	Info  Info
	Auth  connect.Interceptor // who calls and may; Caller then knows
	Log   *slog.Logger
}

// API serves RunService and AdminService. Its long polls wake while Run runs.
type API struct {
	cfg     Config
	changes *changes
}

var (
	_ slipwayv1connect.RunServiceHandler   = (*API)(nil)
	_ slipwayv1connect.AdminServiceHandler = (*API)(nil)
)

// New returns an API.
func New(cfg Config) *API { return &API{cfg: cfg, changes: newChanges()} }

// Run wakes long polls until ctx ends; then it ends them, each with what it has.
func (a *API) Run(ctx context.Context) error {
	defer a.changes.stop()
	w := a.cfg.Store.Watch()
	defer w.Close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.C():
			a.changes.tell(w.Changed())
		}
	}
}

// propose puts a caller's op through the log. When it returns, the state here
// shows it.
func (a *API) propose(ctx context.Context, key string, op state.Op) error {
	if len(key) > maxKey {
		return ci.FieldErrorf(ci.Invalid, "idempotency_key", "the idempotency key has %d bytes, the most is %d", len(key), maxKey)
	}
	_, err := a.cfg.Proposer.Propose(ctx, state.Command{Key: key, Actor: a.cfg.Caller(ctx).Actor, Op: op})
	return err
}

const maxKey = 256 // bytes

// render turns a run into its message.
func (a *API) render(v *state.View, r *ci.Run) *pb.Run { return wire.Run(r, a.runContext(v)) }

func (a *API) runContext(v *state.View) wire.RunContext {
	var of *ci.Run
	var pending func(string) []string
	return wire.RunContext{
		AgentName: func(id ci.AgentID) string {
			if ag := v.Agent(id); ag != nil {
				return ag.Name
			}
			return string(id)
		},
		LogPath: func(r *ci.Run, step string, at *ci.Attempt) string { return a.path(r, step, at).String() },
		Wait: func(r *ci.Run, s *ci.StepRun) *ci.WaitReason {
			if of != r {
				of, pending = r, a.cfg.Explainer.Pending(r)
			}
			return a.wait(r, s, pending)
		},
	}
}

// path is where an assigned attempt's files lie.
func (a *API) path(r *ci.Run, step string, at *ci.Attempt) logpath.Path {
	return logpath.New(a.cfg.Root, r.Tenant, r.ID, step, at.Number, at.Fence)
}
