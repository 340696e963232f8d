package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
	"github.com/slipway-ci/slipway/proto/slipway/v1/slipwayv1connect"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/wire"
)

// client speaks to one server; its errors are ci.Errors.
type client struct {
	runs  slipwayv1connect.RunServiceClient
	admin slipwayv1connect.AdminServiceClient
}

func (c *cli) client() (*client, error) {
	e, err := c.endpoint()
	if err != nil {
		return nil, err
	}
	return dial(e), nil
}

// dial makes a client; nothing is sent yet.
func dial(e endpoint) *client {
	opts := []connect.ClientOption{
		connect.WithInterceptors(bearer(e)),
		connect.WithReadMaxBytes(64 << 20),
	}
	return &client{
		runs:  slipwayv1connect.NewRunServiceClient(http.DefaultClient, strings.TrimRight(e.url, "/"), opts...),
		admin: slipwayv1connect.NewAdminServiceClient(http.DefaultClient, strings.TrimRight(e.url, "/"), opts...),
	}
}

// bearer adds the token to each call and turns what comes back into the
// errors that the rest of the program knows.
func bearer(e endpoint) connect.UnaryInterceptorFunc {
	return func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			if e.token != "" {
				req.Header().Set("Authorization", "Bearer "+e.token)
			}
			res, err := next(ctx, req)
			if err != nil && ctx.Err() == nil {
				return res, fromServer(e, err)
			}
			return res, err
		}
	}
}

func fromServer(e endpoint, err error) error {
	err = wire.FromConnect(err)
	if ci.KindOf(err) == ci.Unavailable && strings.Contains(err.Error(), "connection refused") {
		return ci.Errorf(ci.Unavailable, "no server answers at %s (from %s): %w", e.url, e.from, err)
	}
	return err
}

// patient repeats a read while the server is away, so that a follower lives
// through a restart of the coordinator.
func patient[T any](ctx context.Context, tell func(error), call func() (T, error)) (T, error) {
	wait := 100 * time.Millisecond
	for said := false; ; {
		v, err := call()
		if err == nil || ci.KindOf(err) != ci.Unavailable || ctx.Err() != nil {
			return v, err
		}
		if !said {
			tell(err)
			said = true
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return v, ctx.Err()
		}
		wait = min(2*wait, 2*time.Second)
	}
}

// stepRef is RUN/STEP[#NUMBER].
type stepRef struct {
	run     string
	step    string
	attempt int32
}

func (r stepRef) String() string {
	s := r.run
	if r.step != "" {
		s += "/" + r.step
	}
	if r.attempt > 0 {
		s += fmt.Sprintf("#%d", r.attempt)
	}
	return s
}

// parseRef reads RUN[/STEP[#NUMBER]].
func parseRef(text string) (stepRef, error) {
	run, rest, _ := strings.Cut(text, "/")
	ref := stepRef{run: run}
	step, number, numbered := strings.Cut(rest, "#")
	ref.step = step
	if numbered {
		if _, err := fmt.Sscanf(number, "%d", &ref.attempt); err != nil || ref.attempt < 1 || fmt.Sprint(ref.attempt) != number {
			return ref, usagef("cannot read %q: behind # stands an attempt's number, 1 or more", text)
		}
	}
	if run == "" || (numbered && step == "") || (strings.Contains(text, "/") && step == "") {
		return ref, usagef("cannot read %q: it must look like RUN/STEP or RUN/STEP#NUMBER", text)
	}
	return ref, nil
}

// parseStepRef is parseRef where the step must be named.
func parseStepRef(text string) (stepRef, error) {
	ref, err := parseRef(text)
	if err == nil && ref.step == "" {
		return ref, usagef("cannot read %q: name the step too, as RUN/STEP", text)
	}
	return ref, err
}

// getRun fetches a run by id, or by a unique part of it.
func (cl *client) getRun(ctx context.Context, id string) (*pb.Run, string, error) {
	res, err := cl.runs.GetRun(ctx, &pb.GetRunRequest{Run: id})
	if err != nil {
		return nil, "", err
	}
	return res.GetRun(), res.GetIndex(), nil
}

// findStep returns the step of a run, or a clear error.
func findStep(run *pb.Run, id string) (*pb.Step, error) {
	for _, s := range run.GetSteps() {
		if s.GetId() == id {
			return s, nil
		}
	}
	var ids []string
	for _, s := range run.GetSteps() {
		ids = append(ids, s.GetId())
	}
	return nil, ci.Errorf(ci.NotFound, "run %s has no step %q; it has %s", run.GetId(), id, strings.Join(ids, ", "))
}
