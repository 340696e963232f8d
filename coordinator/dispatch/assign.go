package dispatch

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/expr"
	"github.com/slipway-ci/slipway/shared/logpath"
	"github.com/slipway-ci/slipway/shared/wire"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

// assignment builds all that an agent needs to run an attempt of a step.
func assignment(v *state.View, root string, r *ci.Run, step string, at *ci.Attempt) (*pb.Assignment, error) {
	if r.Workflow == nil || r.Workflow.Step(step) == nil {
		return nil, ci.Errorf(ci.Internal, "run %s has no definition of step %s", r.ID, step)
	}
	def, err := expr.RenderStep(r, r.Workflow.Step(step))
	if err != nil {
		return nil, err
	}
	// What the scheduler reserved counts: a retry rule may have raised it.
	def.Resources = at.Resources
	vars := expr.Variables(r, step)
	outputs := map[string]string{}
	for name, value := range vars {
		if strings.HasPrefix(name, "STEP_") {
			outputs[name] = value
		}
	}
	return wire.AssignmentMessage(&wire.Assignment{
		Attempt: at.ID, Fence: at.Fence, Number: at.Number, Generation: at.Generation,
		Tenant: r.Tenant, Run: r.ID, RunState: ci.RunState(vars["RUN_STATE"]), RunReason: r.Reason,
		Workflow: r.Workflow.Name, Step: def, Source: r.Source,
		Params: expr.Params(r, step), Outputs: outputs,
		LogPath:   logpath.New(root, r.Tenant, r.ID, step, at.Number, at.Fence).String(),
		CacheSeed: cacheSeed(v.Cluster().Seed, r.Tenant),
		Want:      at.Want, WantReason: at.WantReason,
	})
}

// cacheSeed is the secret that names a tenant's caches on every agent. Nobody
// gets from it to another tenant's, nor to the cluster's own seed.
func cacheSeed(seed []byte, t ci.TenantID) string {
	mac := hmac.New(sha256.New, seed)
	_, _ = mac.Write([]byte("caches of tenant " + string(t))) // never fails
	return hex.EncodeToString(mac.Sum(nil))
}
