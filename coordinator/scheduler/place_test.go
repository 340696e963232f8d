package scheduler

import (
	"testing"

	"github.com/slipway-ci/slipway/shared/ci"
)

// host makes an agent with 4 cores, 8 GiB and 4 slots.
func host(id string, edit func(*Host)) *Host {
	h := &Host{Agent: &ci.Agent{
		ID: ci.AgentID(id), Name: id, State: ci.AgentReady, Queues: []string{"default"}, Slots: 4,
		Executors: []string{"docker", "process"}, Tags: map[string]string{"os": "linux"},
		Capacity: ci.Resources{MilliCPU: 4000, Memory: 8 << 30},
	}}
	h.Free, h.Slots = h.Agent.Capacity, h.Agent.Slots
	if edit != nil {
		edit(h)
	}
	return h
}

func TestPlace(t *testing.T) {
	t.Parallel()
	plain := Need{Tenant: "t", Executor: "docker", Queue: "default"}
	with := func(edit func(*Need)) Need { n := plain; edit(&n); return n }
	for name, c := range map[string]struct {
		need  Need
		hosts []*Host
		agent ci.AgentID
		code  ci.WaitCode
	}{
		"empty fleet":        {plain, nil, "", ci.WaitNoAgent},
		"one":                {plain, []*Host{host("a", nil)}, "a", ""},
		"emptier wins":       {plain, []*Host{host("a", func(h *Host) { h.Slots = 1 }), host("b", nil)}, "b", ""},
		"warm wins":          {with(func(n *Need) { n.Warm = "a" }), []*Host{host("a", func(h *Host) { h.Slots = 1 }), host("b", nil)}, "a", ""},
		"avoid beats warm":   {with(func(n *Need) { n.Warm, n.Avoid = "a", []ci.AgentID{"a"} }), []*Host{host("a", nil), host("b", nil)}, "b", ""},
		"avoided but alone":  {with(func(n *Need) { n.Avoid = []ci.AgentID{"a"} }), []*Host{host("a", nil)}, "a", ""},
		"other queue":        {with(func(n *Need) { n.Queue = "mac" }), []*Host{host("a", nil)}, "", ci.WaitNoAgent},
		"other executor":     {plain, []*Host{host("a", func(h *Host) { h.Agent.Executors = []string{"process"} })}, "", ci.WaitNoAgent},
		"tag":                {with(func(n *Need) { n.Tags = map[string]string{"os": "linux"} }), []*Host{host("a", nil)}, "a", ""},
		"missing tag":        {with(func(n *Need) { n.Tags = map[string]string{"gpu": "yes"} }), []*Host{host("a", nil)}, "", ci.WaitNoAgent},
		"other tenant":       {plain, []*Host{host("a", func(h *Host) { h.Agent.Tenant = "u" })}, "", ci.WaitNoAgent},
		"own tenant":         {plain, []*Host{host("a", func(h *Host) { h.Agent.Tenant = "t" })}, "a", ""},
		"never enough":       {with(func(n *Need) { n.Resources.Memory = 64 << 30 }), []*Host{host("a", nil)}, "", ci.WaitNoAgent},
		"not enough now":     {with(func(n *Need) { n.Resources.Memory = 6 << 30 }), []*Host{host("a", func(h *Host) { h.Free.Memory = 1 << 30 })}, "", ci.WaitAgentsFull},
		"no slot":            {plain, []*Host{host("a", func(h *Host) { h.Slots = 0 })}, "", ci.WaitAgentsFull},
		"draining":           {plain, []*Host{host("a", func(h *Host) { h.Agent.State = ci.AgentDraining })}, "", ci.WaitDraining},
		"silent":             {plain, []*Host{host("a", func(h *Host) { h.Agent.State = ci.AgentSilent })}, "", ci.WaitDraining},
		"gone":               {plain, []*Host{host("a", func(h *Host) { h.Agent.State = ci.AgentGone })}, "", ci.WaitNoAgent},
		"disk not measured":  {with(func(n *Need) { n.Resources.Disk = 1 << 30 }), []*Host{host("a", nil)}, "a", ""},
		"overloaded by hand": {plain, []*Host{host("a", func(h *Host) { h.Free.MilliCPU = -1 })}, "a", ""},
	} {
		agent, why := Place(c.need, &Fleet{hosts: c.hosts})
		if agent != c.agent || why.Code != c.code || (agent == "" && why.Message == "") {
			t.Errorf("%s: placed on %q because of %+v, want %q %q", name, agent, why, c.agent, c.code)
		}
	}
}

func TestPlaceTakesWhatItGives(t *testing.T) {
	t.Parallel()
	f := &Fleet{hosts: []*Host{host("a", nil)}}
	n := Need{Executor: "docker", Queue: "default", Resources: ci.Resources{MilliCPU: 1500}}
	for range 2 {
		if agent, why := Place(n, f); agent != "a" {
			t.Fatalf("not placed: %+v", why)
		}
	}
	if agent, why := Place(n, f); agent != "" || why.Code != ci.WaitAgentsFull {
		t.Errorf("a third of 1.5 cores found room in 4: %q %+v", agent, why)
	}
}
