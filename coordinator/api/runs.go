package api

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/wire"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

// GetRun returns a run.
func (a *API) GetRun(ctx context.Context, req *pb.GetRunRequest) (*pb.GetRunResponse, error) {
	v := a.cfg.Store.View()
	r, err := a.find(ctx, v, req.GetRun())
	if err != nil {
		return nil, err
	}
	return &pb.GetRunResponse{Run: a.render(v, r), Index: index(r)}, nil
}

func index(r *ci.Run) string { return strconv.FormatUint(r.Index, 10) }

// WatchRun returns a run once it has changed after an index.
func (a *API) WatchRun(ctx context.Context, req *pb.WatchRunRequest) (*pb.WatchRunResponse, error) {
	after, err := number(req.GetIndex(), "index")
	if err != nil {
		return nil, err
	}
	r, err := a.find(ctx, a.cfg.Store.View(), req.GetRun())
	if err != nil {
		return nil, err
	}
	r, err = a.until(ctx, r.ID, seconds(req.GetWaitSeconds()), func(r *ci.Run) bool { return r.Index > after })
	if err != nil {
		return nil, err
	}
	return &pb.WatchRunResponse{Run: a.render(a.cfg.Store.View(), r), Index: index(r), Changed: r.Index > after}, nil
}

// until waits until a run meets a condition, at most for wait, and returns the
// run as it is then.
func (a *API) until(ctx context.Context, id ci.RunID, wait time.Duration, met func(*ci.Run) bool) (*ci.Run, error) {
	late := time.NewTimer(wait)
	defer late.Stop()
	for over := wait <= 0; ; {
		changed, release := a.changes.of(id)
		r := a.cfg.Store.View().Run(id)
		if r == nil || over || met(r) || a.changes.over() {
			release()
			return r, gone(r, id)
		}
		var err error
		select {
		case <-ctx.Done():
			err = ci.Errorf(ci.Canceled, "stopped waiting for run %s: %w", id, ctx.Err())
		case <-late.C:
			over = true
		case <-changed:
		}
		release()
		if err != nil {
			return nil, err
		}
	}
}

func gone(r *ci.Run, id ci.RunID) error {
	if r == nil {
		return ci.FieldErrorf(ci.NotFound, "run", "run %s is gone", id)
	}
	return nil
}

// seconds turns a wait of a request into a duration within what is allowed.
func seconds(s float64) time.Duration {
	return time.Duration(min(max(s, 0), maxWait.Seconds()) * float64(time.Second))
}

// number parses a cursor; empty is 0.
func number(text, field string) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0, ci.FieldErrorf(ci.Invalid, field, "%s %q is not one that an earlier answer gave", field, text)
	}
	return n, nil
}

const (
	defaultRuns = 20
	maxRuns     = 500
)

// ListRuns lists runs, newest first.
func (a *API) ListRuns(ctx context.Context, req *pb.ListRunsRequest) (*pb.ListRunsResponse, error) {
	limit, err := bounded(req.GetLimit(), defaultRuns, maxRuns)
	if err != nil {
		return nil, err
	}
	state := ci.RunState(req.GetState())
	if err := knownState(state); err != nil {
		return nil, err
	}
	if name := req.GetTenant(); name != "" { // a tenant that is mistyped is not one without runs
		if _, err := a.tenant(ctx, name); err != nil {
			return nil, err
		}
	}
	who := a.cfg.Caller(ctx)
	sha := strings.ToLower(req.GetSha())
	res := &pb.ListRunsResponse{}
	a.cfg.Store.View().RunsDesc(ci.RunID(req.GetBefore()), func(r *ci.Run) bool {
		switch {
		case !who.sees(r.Tenant),
			req.GetTenant() != "" && req.GetTenant() != string(r.Tenant),
			state != "" && r.State != state,
			req.GetWorkflow() != "" && (r.Workflow == nil || r.Workflow.Name != req.GetWorkflow()),
			req.GetBranch() != "" && r.Source.Branch != req.GetBranch(),
			!strings.HasPrefix(r.Source.SHA, sha):
			return true
		}
		if len(res.Runs) == limit { // one more than fits: there is another page
			res.Next = res.GetRuns()[limit-1].GetId()
			return false
		}
		res.Runs = append(res.Runs, wire.RunRow(r))
		return true
	})
	return res, nil
}

// bounded reads a limit; 0 is the default.
func bounded(n int32, preset, most int) (int, error) {
	switch {
	case n == 0:
		return preset, nil
	case n < 0 || int(n) > most:
		return 0, ci.FieldErrorf(ci.Invalid, "limit", "the limit %d is not between 1 and %d", n, most)
	}
	return int(n), nil
}

func knownState(s ci.RunState) error {
	all := []string{
		string(ci.RunQueued), string(ci.RunRunning), string(ci.RunBlocked), string(ci.RunCanceling), string(ci.RunPassed),
		string(ci.RunFailed), string(ci.RunCanceled), string(ci.RunTimedOut), string(ci.RunExpired),
	}
	for _, known := range all {
		if s == "" || string(s) == known {
			return nil
		}
	}
	return ci.FieldErrorf(ci.Invalid, "state", "there is no run state %q; there are %s", s, strings.Join(all, ", "))
}
