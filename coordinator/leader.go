package coordinator

import (
	"context"

	"github.com/slipway-ci/slipway/shared/lifecycle"
)

// leadWhenElected runs the leader's work in each of this node's terms.
func (c *coordinator) leadWhenElected(ctx context.Context) error { return c.node.Lead(ctx, c.lead) }

// lead is the list of what runs while this node leads, and nowhere else.
func (c *coordinator) lead(ctx context.Context) error {
	var g lifecycle.Group
	g.Add("engine", c.engine.Run)
	g.Add("scheduler", c.sched.Run)
	g.Add("liveness", c.dispatch.Liveness)
	return g.Run(ctx)
}
