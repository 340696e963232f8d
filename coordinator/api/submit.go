package api

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/id"
	"github.com/slipway-ci/slipway/shared/spec"
	"github.com/slipway-ci/slipway/shared/wire"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

// SubmitRun starts a run of a workflow file.
func (a *API) SubmitRun(ctx context.Context, req *pb.SubmitRunRequest) (*pb.SubmitRunResponse, error) {
	tenant, err := a.tenant(ctx, req.GetTenant())
	if err != nil {
		return nil, err
	}
	w, warnings, err := parse(req)
	if err != nil {
		return nil, err
	}
	params, err := spec.Params(w, req.GetParams())
	if err != nil {
		return nil, err
	}
	if err := spec.Select(w, req.GetOnly(), req.GetSkip()); err != nil {
		return nil, err
	}
	if err := granted(w, tenant); err != nil {
		return nil, err
	}
	source, err := a.source(ctx, tenant.ID, req)
	if err != nil {
		return nil, err
	}
	run := ci.Run{
		ID: ci.RunID(id.New()), Tenant: tenant.ID, Source: source,
		Params: params, Only: req.GetOnly(), Skip: req.GetSkip(),
	}
	key := req.GetIdempotencyKey()
	if err := a.create(ctx, key, run, w); err != nil {
		return nil, err
	}
	v := a.cfg.Store.View()
	made := run.ID
	if earlier, ok := v.Key(tenant.ID, key); key != "" && ok {
		made = ci.RunID(earlier)
	}
	r := v.Run(made)
	if r == nil {
		return nil, ci.Errorf(ci.NotFound, "the idempotency key %q belongs to run %s, which is not here any more", key, made)
	}
	return &pb.SubmitRunResponse{Run: a.render(v, r), Warnings: warnings, Existed: made != run.ID}, nil
}

// create stores the workflow where the state does not have it, then the run.
func (a *API) create(ctx context.Context, key string, run ci.Run, w *ci.Workflow) error {
	hash, parts, err := state.PackWorkflow(w)
	if err != nil {
		return err
	}
	run.WorkflowHash = hash
	known := a.cfg.Store.View().Workflow(hash) != nil
	for {
		if !known {
			for i := range parts {
				if err := a.propose(ctx, "", &parts[i]); err != nil {
					return err
				}
			}
		}
		err := a.propose(ctx, key, &state.CreateRun{Run: run})
		// A workflow that nobody used for an hour may have gone since we looked.
		if known && ci.KindOf(err) == ci.NotFound && a.cfg.Store.View().Workflow(hash) == nil {
			known = false
			continue
		}
		return err
	}
}

// tenant returns the tenant that a call is for: the one it names, else the
// token's, else the default.
func (a *API) tenant(ctx context.Context, name string) (*ci.Tenant, error) {
	who := a.cfg.Caller(ctx)
	want := ci.TenantID(name)
	switch {
	case want != "":
	case who.Tenant != "":
		want = who.Tenant
	default:
		want = ci.DefaultTenant
	}
	t := a.cfg.Store.View().Tenant(want)
	if t == nil || !who.sees(want) {
		return nil, ci.FieldErrorf(ci.NotFound, "tenant", "there is no tenant %q", want)
	}
	return t, nil
}

// parse reads the workflow file; what is wrong with it travels in the error.
func parse(req *pb.SubmitRunRequest) (*ci.Workflow, []*pb.Problem, error) {
	src := req.GetWorkflowYaml()
	if strings.TrimSpace(src) == "" {
		return nil, nil, ci.FieldErrorf(ci.Invalid, "workflow_yaml", "cannot submit a run: the workflow file is empty")
	}
	if len(src) > spec.MaxBytes {
		return nil, nil, ci.FieldErrorf(ci.Invalid, "workflow_yaml",
			"cannot submit a run: the workflow file has %d bytes, the most is %d; move scripts into files of the repository", len(src), spec.MaxBytes)
	}
	w, problems := spec.Parse([]byte(src), spec.Options{File: req.GetFile()})
	if err := problems.Err(); err != nil {
		return nil, nil, wire.WithProblems(shortened(err, problems), messages(problems))
	}
	if !w.Dispatch {
		return nil, nil, ci.FieldErrorf(ci.Conflict, "workflow_yaml",
			"cannot submit a run of %s: it says on.dispatch: false, so that only events start it", w.Name)
	}
	return w, messages(problems), nil
}

// maxText bounds an error's message in bytes. Some transports carry it in a
// header; the whole list is in the detail.
const maxText = 6 << 10

func shortened(err error, problems spec.Problems) error {
	var e *ci.Error
	if !errors.As(err, &e) || len(e.Msg) <= maxText {
		return err
	}
	var b strings.Builder
	b.WriteString("cannot use this workflow:")
	errs := problems.Errors()
	for i, p := range errs {
		p.Excerpt = ""
		line := "\n" + p.String()
		if b.Len()+len(line) > maxText {
			fmt.Fprintf(&b, "\nand %d more", len(errs)-i)
			break
		}
		b.WriteString(line)
	}
	return &ci.Error{Kind: e.Kind, Field: e.Field, Msg: b.String()}
}

func messages(problems spec.Problems) []*pb.Problem {
	out := make([]*pb.Problem, 0, len(problems))
	for _, p := range problems {
		out = append(out, &pb.Problem{
			File: p.File, Line: int32(p.Line), Column: int32(p.Col), Severity: string(p.Severity),
			Code: p.Code, Message: p.Msg, Hint: p.Hint, Excerpt: p.Excerpt,
		})
	}
	return out
}

// granted refuses a workflow that asks for what its tenant was not given.
func granted(w *ci.Workflow, t *ci.Tenant) error {
	for i := range w.Steps {
		if s := &w.Steps[i]; s.Docker == ci.DockerRaw && !t.Granted(ci.GrantDockerRaw) {
			return ci.FieldErrorf(ci.Forbidden, "workflow_yaml",
				"cannot submit a run of %s: step %s (line %d) has docker: raw, which gives it the whole host, and tenant %s does not hold the grant %s",
				w.Name, s.ID, s.Line, t.ID, ci.GrantDockerRaw)
		}
	}
	return nil
}
