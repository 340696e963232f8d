package state

import (
	"slices"

	"github.com/slipway-ci/slipway/shared/ci"
)

func (o *InitCluster) apply(x *tx) error {
	c := x.t.meta.Cluster
	if c.ID == o.ID && c.ID != "" {
		return nil
	}
	if c.ID != "" {
		return ci.Errorf(ci.Conflict, "cannot make this the cluster %s: it is the cluster %s", o.ID, c.ID)
	}
	if err := checkID("cluster", o.ID); err != nil {
		return err
	}
	x.t.meta.Cluster = Cluster{ID: o.ID, Seed: slices.Clone(o.Seed), Epoch: 1}
	x.changes.all = true
	return nil
}

func (*Tick) apply(*tx) error { return nil }

func (o *CreateTenant) apply(x *tx) error {
	t := o.Tenant
	if err := checkID("tenant", string(t.ID)); err != nil {
		return err
	}
	if t.MaxQueued < 0 {
		return ci.FieldErrorf(ci.Invalid, "max_queued", "cannot set the quota of tenant %s to %d: it must be 0 or more", t.ID, t.MaxQueued)
	}
	t.Grants = slices.Clone(t.Grants)
	t.CreatedAt = x.stamp.Wall
	if old, ok := x.t.tenants.get(t.ID); ok {
		t.CreatedAt = old.CreatedAt
	}
	x.t.tenants.put(t.ID, &t)
	x.changes.tenants[t.ID] = struct{}{}
	x.record(ci.AuditEntry{Tenant: t.ID}, false)
	return nil
}

func (o *CreateToken) apply(x *tx) error {
	t := o.Token
	if err := checkID("token", string(t.ID)); err != nil {
		return err
	}
	if err := checkID("token", t.Hash); err != nil {
		return err
	}
	if old, ok := x.t.tokens.get(t.ID); ok {
		if old.Hash == t.Hash && old.User == t.User && old.Role == t.Role && old.Tenant == t.Tenant {
			return nil
		}
		return ci.Errorf(ci.Conflict, "there is another token %s already", t.ID)
	}
	t.CreatedAt = x.stamp.Wall
	x.t.tokens.put(t.ID, &t)
	x.record(ci.AuditEntry{Tenant: t.Tenant, After: string(t.ID) + " of " + t.User + " as " + string(t.Role)}, false)
	return nil
}

func (o *RevokeToken) apply(x *tx) error {
	t, ok := x.t.tokens.get(o.ID)
	if !ok {
		return nil
	}
	x.t.tokens.delete(o.ID)
	x.record(ci.AuditEntry{Tenant: t.Tenant, Before: string(t.ID) + " of " + t.User + " as " + string(t.Role)}, false)
	return nil
}

func (o *RegisterAgent) apply(x *tx) error {
	a := o.Agent
	if err := checkID("agent", string(a.ID)); err != nil {
		return err
	}
	a.JoinedAt, a.Incarnation, a.State = x.stamp.Wall, 1, ci.AgentReady
	rebooted := false
	if old, ok := x.t.agents.get(a.ID); ok {
		a.JoinedAt, a.Incarnation = old.JoinedAt, old.Incarnation+1
		if old.State == ci.AgentDraining {
			a.State = old.State
		}
		rebooted = old.BootID != a.BootID
	}
	x.putAgent(&a)
	if rebooted {
		x.loseAll(a.ID, ci.ReasonAgentLost, "the agent's host was restarted")
	}
	return nil
}

// putAgent stores a as heard just now.
func (x *tx) putAgent(a *ci.Agent) {
	a.SeenAt, a.Seen = x.stamp.Wall, x.stamp.Cluster
	x.t.agents.put(a.ID, a)
	x.changes.agents[a.ID] = struct{}{}
}

// loseAll gives up all that an agent holds.
func (x *tx) loseAll(id ci.AgentID, reason ci.Reason, message string) {
	for _, ref := range (&View{t: *x.t}).AttemptsOf(id) {
		r, i, j, err := x.attempt(ref.Run, ref.Step, ref.Attempt)
		if err != nil {
			panic(err) // the index names what is not there
		}
		e := x.edit(r)
		e.lose(i, j, reason, message)
		e.save()
	}
}

func (o *CheckpointAgents) apply(x *tx) error {
	for _, s := range o.Seen {
		old, ok := x.t.agents.get(s.ID)
		if !ok || s.Wall.Before(old.SeenAt) {
			continue
		}
		a := *old
		// Not a change that anyone has to wake for.
		a.SeenAt, a.Seen = s.Wall, x.stamp.Cluster
		x.t.agents.put(a.ID, &a)
	}
	return nil
}

func (o *AgentSilent) apply(x *tx) error {
	old, ok := x.t.agents.get(o.ID)
	if !ok {
		return ci.Errorf(ci.NotFound, "there is no agent %s", o.ID)
	}
	if old.State == ci.AgentSilent || old.State == ci.AgentGone {
		return nil
	}
	a := *old
	a.State = ci.AgentSilent
	x.t.agents.put(a.ID, &a)
	x.changes.agents[a.ID] = struct{}{}
	return nil
}

func (o *AgentHeard) apply(x *tx) error {
	old, ok := x.t.agents.get(o.ID)
	if !ok {
		return ci.Errorf(ci.NotFound, "there is no agent %s", o.ID)
	}
	if old.State != ci.AgentSilent {
		return nil
	}
	a := *old
	a.State = ci.AgentReady
	x.putAgent(&a)
	return nil
}
