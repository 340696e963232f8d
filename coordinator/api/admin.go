package api

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/version"
	"github.com/slipway-ci/slipway/shared/wire"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

// GetInfo tells about the server and the caller.
func (a *API) GetInfo(ctx context.Context, _ *pb.GetInfoRequest) (*pb.GetInfoResponse, error) {
	v := a.cfg.Store.View()
	who := a.cfg.Caller(ctx)
	leader, _ := a.cfg.Leader()
	return &pb.GetInfoResponse{
		Version: version.Version, Cluster: v.Cluster().ID,
		User: who.Actor.Name, Role: string(who.Role), Tenant: string(who.Tenant),
		Leader: leader, Index: strconv.FormatUint(v.Index(), 10),
		Bucket: a.cfg.Root, S3Endpoint: a.cfg.Info.S3Endpoint, Registry: a.cfg.Info.Registry, Node: a.cfg.Info.Node,
	}, nil
}

// ListAgents lists the agents that the caller's steps may run on.
func (a *API) ListAgents(ctx context.Context, _ *pb.ListAgentsRequest) (*pb.ListAgentsResponse, error) {
	v, who := a.cfg.Store.View(), a.cfg.Caller(ctx)
	res := &pb.ListAgentsResponse{}
	for _, ag := range v.Agents() {
		if ag.Tenant == "" || who.sees(ag.Tenant) {
			res.Agents = append(res.Agents, agentMessage(v, who, ag))
		}
	}
	return res, nil
}

// GetAgent returns an agent by id or name.
func (a *API) GetAgent(ctx context.Context, req *pb.GetAgentRequest) (*pb.GetAgentResponse, error) {
	v, who := a.cfg.Store.View(), a.cfg.Caller(ctx)
	var found []*ci.Agent
	var have []string
	for _, ag := range v.Agents() {
		if ag.Tenant != "" && !who.sees(ag.Tenant) {
			continue
		}
		have = append(have, ag.Name)
		if string(ag.ID) == req.GetAgent() {
			found = []*ci.Agent{ag}
			break
		}
		if ag.Name == req.GetAgent() {
			found = append(found, ag)
		}
	}
	switch len(found) {
	case 0:
		return nil, ci.FieldErrorf(ci.NotFound, "agent", "there is no agent %q; there are %s", req.GetAgent(), names(have))
	case 1:
		return &pb.GetAgentResponse{Agent: agentMessage(v, who, found[0])}, nil
	default:
		ids := make([]string, len(found))
		for i, ag := range found {
			ids[i] = string(ag.ID)
		}
		return nil, ci.FieldErrorf(ci.Invalid, "agent", "several agents are called %q: name one of %s", req.GetAgent(), names(ids))
	}
}

// agentMessage names only those attempts whose tenant the caller sees; how much
// is in use, everybody may know.
func agentMessage(v *state.View, who Caller, ag *ci.Agent) *pb.Agent {
	refs := v.AttemptsOf(ag.ID)
	var names []string
	for _, ref := range refs {
		r := v.Run(ref.Run)
		at := r.Step(ref.Step).Attempt(ref.Attempt)
		if who.sees(r.Tenant) {
			names = append(names, fmt.Sprintf("%s/%s#%d", r.ID, ref.Step, at.Number))
		}
	}
	m := wire.Agent(ag, v.Load(ag.ID).Resources, names)
	m.Running = int32(len(refs))
	return m
}

const (
	defaultAudit = 100
	maxAudit     = 1000
)

// ListAudit lists changes by people and tokens, newest first.
func (a *API) ListAudit(ctx context.Context, req *pb.ListAuditRequest) (*pb.ListAuditResponse, error) {
	limit, err := bounded(req.GetLimit(), defaultAudit, maxAudit)
	if err != nil {
		return nil, err
	}
	before, err := auditKey(req.GetBefore())
	if err != nil {
		return nil, err
	}
	v, who := a.cfg.Store.View(), a.cfg.Caller(ctx)
	var run ci.RunID
	if req.GetRun() != "" {
		r, err := a.find(ctx, v, req.GetRun())
		if err != nil {
			return nil, err
		}
		run = r.ID
	}
	sha := strings.ToLower(req.GetSha())
	res := &pb.ListAuditResponse{}
	last := state.AuditKey{}
	v.AuditDesc(before, func(k state.AuditKey, e *ci.AuditEntry) bool {
		if !who.sees(e.Tenant) || run != "" && e.Run != run || !strings.HasPrefix(e.SHA, sha) {
			return true
		}
		if len(res.Entries) == limit {
			res.Next = fmt.Sprintf("%d.%d", last.Index, last.N)
			return false
		}
		last = k
		res.Entries = append(res.Entries, wire.AuditEntry(e))
		return true
	})
	return res, nil
}

// auditKey parses the cursor of a page: index.n.
func auditKey(text string) (state.AuditKey, error) {
	if text == "" {
		return state.AuditKey{}, nil
	}
	index, n, ok := strings.Cut(text, ".")
	i, err := strconv.ParseUint(index, 10, 64)
	count, nerr := strconv.Atoi(n)
	if !ok || err != nil || nerr != nil || count < 0 {
		return state.AuditKey{}, ci.FieldErrorf(ci.Invalid, "before", "before %q is not what an earlier answer gave as next", text)
	}
	return state.AuditKey{Index: i, N: count}, nil
}
