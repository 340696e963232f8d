package api

import (
	"context"
	"maps"
	"regexp"
	"strings"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/spec"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

// change proposes an op on a run and returns the run as it is then.
func (a *API) change(ctx context.Context, key string, id ci.RunID, op state.Op) (*pb.Run, error) {
	if err := a.propose(ctx, key, op); err != nil {
		return nil, err
	}
	v := a.cfg.Store.View()
	r := v.Run(id)
	if err := gone(r, id); err != nil {
		return nil, err
	}
	return a.render(v, r), nil
}

const maxReason = 4 << 10 // bytes

func reason(text string) (string, error) {
	text = strings.TrimSpace(text)
	if len(text) > maxReason {
		return "", ci.FieldErrorf(ci.Invalid, "reason", "the reason has %d bytes, the most is %d", len(text), maxReason)
	}
	return text, nil
}

// CancelRun cancels a run.
func (a *API) CancelRun(ctx context.Context, req *pb.CancelRunRequest) (*pb.CancelRunResponse, error) {
	r, err := a.find(ctx, a.cfg.Store.View(), req.GetRun())
	if err != nil {
		return nil, err
	}
	note, err := reason(req.GetReason())
	if err != nil {
		return nil, err
	}
	run, err := a.change(ctx, req.GetIdempotencyKey(), r.ID, &state.CancelRun{Run: r.ID, Note: note, Hard: req.GetHard()})
	if err != nil {
		return nil, err
	}
	return &pb.CancelRunResponse{Run: run}, nil
}

// RetryRun opens steps again.
func (a *API) RetryRun(ctx context.Context, req *pb.RetryRunRequest) (*pb.RetryRunResponse, error) {
	r, err := a.find(ctx, a.cfg.Store.View(), req.GetRun())
	if err != nil {
		return nil, err
	}
	op, err := retryOp(r, req)
	if err != nil {
		return nil, err
	}
	run, err := a.change(ctx, req.GetIdempotencyKey(), r.ID, op)
	if err != nil {
		return nil, err
	}
	res := &pb.RetryRunResponse{Run: run}
	for i, s := range run.GetSteps() {
		if int(s.GetGeneration()) > r.Steps[i].Generation {
			res.Steps = append(res.Steps, s.GetId())
		}
	}
	return res, nil
}

var envForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func retryOp(r *ci.Run, req *pb.RetryRunRequest) (*state.RetryRun, error) {
	op := &state.RetryRun{Run: r.ID, Mode: state.RetryFailed, From: req.GetFrom(), Steps: req.GetSteps(), Env: req.GetEnv()}
	chosen := 0
	if req.GetFailed() {
		chosen++
	}
	if op.From != "" {
		op.Mode = state.RetryFrom
		chosen++
	}
	if len(op.Steps) > 0 {
		op.Mode = state.RetrySteps
		chosen++
	}
	if chosen > 1 {
		return nil, ci.FieldErrorf(ci.Invalid, "steps", "cannot retry run %s: give only one of failed, from and steps", r.ID)
	}
	for _, id := range append([]string{op.From}, op.Steps...) {
		if id == "" {
			continue
		}
		if _, err := findStep(r, id); err != nil {
			return nil, err
		}
	}
	for name := range op.Env {
		if !envForm.MatchString(name) {
			return nil, ci.FieldErrorf(ci.Invalid, "env", "cannot retry run %s: %q is no name of a variable", r.ID, name)
		}
	}
	var err error
	op.Params, err = retryParams(r, req.GetParams())
	return op, err
}

// retryParams checks changed parameters as a submit would, and keeps those
// alone: the others stay as they were.
func retryParams(r *ci.Run, given map[string]string) (map[string]string, error) {
	if len(given) == 0 {
		return nil, nil
	}
	all := maps.Clone(r.Params)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, given)
	checked, err := spec.Params(r.Workflow, all)
	if err != nil {
		return nil, err
	}
	out := make(map[string]string, len(given))
	for name := range given {
		out[name] = checked[name]
	}
	return out, nil
}

// SkipStep lets a step stand aside.
func (a *API) SkipStep(ctx context.Context, req *pb.SkipStepRequest) (*pb.SkipStepResponse, error) {
	r, note, err := a.stepAndReason(ctx, req.GetRun(), req.GetStep(), req.GetReason())
	if err != nil {
		return nil, err
	}
	if note == "" {
		return nil, ci.FieldErrorf(ci.Invalid, "reason", "cannot skip step %s of run %s without a reason: it is kept beside the run", req.GetStep(), r.ID)
	}
	run, err := a.change(ctx, req.GetIdempotencyKey(), r.ID, &state.SkipStep{Run: r.ID, Step: req.GetStep(), Note: note})
	if err != nil {
		return nil, err
	}
	return &pb.SkipStepResponse{Run: run}, nil
}

// CancelStep cancels one step.
func (a *API) CancelStep(ctx context.Context, req *pb.CancelStepRequest) (*pb.CancelStepResponse, error) {
	r, note, err := a.stepAndReason(ctx, req.GetRun(), req.GetStep(), req.GetReason())
	if err != nil {
		return nil, err
	}
	run, err := a.change(ctx, req.GetIdempotencyKey(), r.ID, &state.CancelStep{Run: r.ID, Step: req.GetStep(), Note: note})
	if err != nil {
		return nil, err
	}
	return &pb.CancelStepResponse{Run: run}, nil
}

func (a *API) stepAndReason(ctx context.Context, run, step, why string) (*ci.Run, string, error) {
	r, err := a.find(ctx, a.cfg.Store.View(), run)
	if err != nil {
		return nil, "", err
	}
	if _, err := findStep(r, step); err != nil {
		return nil, "", err
	}
	note, err := reason(why)
	return r, note, err
}
