package coordinator

import (
	"context"

	"github.com/slipway-ci/slipway/coordinator/api"
	"github.com/slipway-ci/slipway/coordinator/auth"
	"github.com/slipway-ci/slipway/coordinator/engine"
	"github.com/slipway-ci/slipway/coordinator/logs"
	"github.com/slipway-ci/slipway/coordinator/scheduler"
	"github.com/slipway-ci/slipway/shared/ci"
)

func caller(ctx context.Context) api.Caller { return api.Caller(auth.From(ctx)) }

// logReader is logs.Reader as the API knows it.
type logReader struct{ *logs.Reader }

func (r logReader) Read(ctx context.Context, q api.LogQuery) (api.LogPage, error) {
	page, err := r.Reader.Read(ctx,
		logs.Log{Path: q.Path, Attempt: q.Attempt, Over: q.Over},
		logs.Query{From: q.From, Tail: q.Tail, Limit: q.Limit, Wait: q.Wait})
	return api.LogPage(page), err
}

// explainer joins the two who know why a step waits.
type explainer struct{ *scheduler.Scheduler }

func (explainer) Pending(r *ci.Run) func(string) []string { return engine.Pending(r) }

// whyText is the scheduler's word as a sentence; empty when it has none.
func (c *coordinator) whyText(run ci.RunID, step string) string {
	w, _ := c.sched.Why(run, step)
	return w.Message
}
