// Package scheduler decides which agent takes a waiting step, and says why one
// waits.
package scheduler

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
)

// Need is what a step asks of an agent.
type Need struct {
	Tenant    ci.TenantID
	Executor  string
	Queue     string
	Tags      map[string]string
	Resources ci.Resources
	Avoid     []ci.AgentID // preferably not one of these
	Warm      ci.AgentID   // preferably this one, which ran the step last
}

// class names the needs that are alike to Place but for their preferences.
func (n Need) class() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s|%s|%d|%d|%d", n.Executor, n.Queue, n.Resources.MilliCPU, n.Resources.Memory, n.Resources.Disk)
	for _, k := range slices.Sorted(maps.Keys(n.Tags)) {
		fmt.Fprintf(&b, "|%q=%q", k, n.Tags[k])
	}
	return b.String()
}

// Host is an agent and what of it is free.
type Host struct {
	Agent *ci.Agent
	Free  ci.Resources
	Slots int
}

// Fleet is the agents as one pass sees them; places it gives are taken off.
type Fleet struct {
	hosts []*Host // by id, so that equal inputs give equal places
}

// NewFleet reads the agents and what they carry.
func NewFleet(v *state.View) *Fleet {
	f := &Fleet{}
	for _, a := range v.Agents() {
		load := v.Load(a.ID)
		f.hosts = append(f.hosts, &Host{Agent: a, Free: a.Capacity.Sub(load.Resources), Slots: a.Slots - load.Slots})
	}
	return f
}

// WhyNot explains a refusal.
type WhyNot struct {
	Code    ci.WaitCode
	Message string
	Detail  string
}

// Place returns the agent that takes a step with this need, or why none does.
// Of those that can, it prefers one not to be avoided, then the warm one, then
// the one with the most free slots and memory.
func Place(n Need, f *Fleet) (ci.AgentID, WhyNot) {
	var best *Host
	for _, h := range f.hosts {
		if !h.matches(n) || h.Agent.State != ci.AgentReady || !h.fits(n) {
			continue
		}
		if best == nil || better(n, h, best) {
			best = h
		}
	}
	if best == nil {
		return "", f.explain(n)
	}
	best.Free = best.Free.Sub(n.Resources)
	best.Slots--
	return best.Agent.ID, WhyNot{}
}

func better(n Need, a, b *Host) bool {
	if x, y := slices.Contains(n.Avoid, a.Agent.ID), slices.Contains(n.Avoid, b.Agent.ID); x != y {
		return y
	}
	if x, y := a.Agent.ID == n.Warm, b.Agent.ID == n.Warm; x != y {
		return x
	}
	if a.Slots != b.Slots {
		return a.Slots > b.Slots
	}
	return a.Free.Memory > b.Free.Memory
}

// matches reports whether the agent could ever run the step, were it empty.
func (h *Host) matches(n Need) bool { return h.misses(n) == "" }

// misses says what keeps the agent from ever running the step.
func (h *Host) misses(n Need) string {
	a := h.Agent
	switch {
	case a.State == ci.AgentGone:
		return "it is gone"
	case a.Tenant != "" && a.Tenant != n.Tenant:
		return "it serves tenant " + string(a.Tenant)
	case !a.Has(n.Executor):
		return "it has no executor " + n.Executor
	case !slices.Contains(a.Queues, n.Queue):
		return "it serves queue " + strings.Join(a.Queues, ", ")
	}
	for _, k := range slices.Sorted(maps.Keys(n.Tags)) {
		if got, ok := a.Tags[k]; !ok || got != n.Tags[k] {
			return fmt.Sprintf("its tag %s is %q, not %q", k, got, n.Tags[k])
		}
	}
	c := a.Capacity
	switch r := n.Resources; {
	case r.MilliCPU > c.MilliCPU:
		return fmt.Sprintf("it has %.1f cores, the step wants %.1f", float64(c.MilliCPU)/1000, float64(r.MilliCPU)/1000)
	case r.Memory > c.Memory:
		return fmt.Sprintf("it has %d MiB of memory, the step wants %d", c.Memory>>20, r.Memory>>20)
	case r.Disk > c.Disk && c.Disk > 0:
		return fmt.Sprintf("it has %d MiB of disk, the step wants %d", c.Disk>>20, r.Disk>>20)
	}
	return ""
}

// fits reports whether the agent has room now.
func (h *Host) fits(n Need) bool {
	r := n.Resources
	return h.Slots > 0 && r.MilliCPU <= max(h.Free.MilliCPU, 0) && r.Memory <= max(h.Free.Memory, 0) &&
		(r.Disk <= max(h.Free.Disk, 0) || h.Agent.Capacity.Disk == 0)
}

// explain says why no agent takes the step.
func (f *Fleet) explain(n Need) WhyNot {
	var ready, away int
	var nearest, best string
	slots, cpu, memory := 0, int64(0), int64(0)
	for _, h := range f.hosts {
		if miss := h.misses(n); miss != "" {
			if h.Agent.State != ci.AgentGone && nearest == "" {
				nearest = fmt.Sprintf("agent %s: %s", h.Agent.Name, miss)
			}
			continue
		}
		if h.Agent.State != ci.AgentReady {
			away++
			best = fmt.Sprintf("agent %s is %s", h.Agent.Name, h.Agent.State)
			continue
		}
		ready++
		slots, cpu, memory = max(slots, h.Slots), max(cpu, h.Free.MilliCPU), max(memory, h.Free.Memory)
	}
	switch {
	case ready > 0:
		return WhyNot{
			Code:    ci.WaitAgentsFull,
			Message: full(ready),
			Detail: fmt.Sprintf("needs %.1f cores and %d MiB; free at best: %d slots, %.1f cores, %d MiB",
				float64(n.Resources.MilliCPU)/1000, n.Resources.Memory>>20, slots, float64(max(cpu, 0))/1000, max(memory, 0)>>20),
		}
	case away > 0:
		return WhyNot{Code: ci.WaitDraining, Message: "every matching agent is draining or silent", Detail: best}
	case nearest != "":
		return WhyNot{Code: ci.WaitNoAgent, Message: "no agent can ever run it: " + nearest, Detail: n.wish()}
	}
	return WhyNot{Code: ci.WaitNoAgent, Message: "no agent has joined the fleet", Detail: n.wish()}
}

func full(agents int) string {
	if agents == 1 {
		return "the only matching agent is full"
	}
	return fmt.Sprintf("all %d matching agents are full", agents)
}

// wish says in words what the step asks for.
func (n Need) wish() string {
	text := fmt.Sprintf("wants queue %s, executor %s", n.Queue, n.Executor)
	for _, k := range slices.Sorted(maps.Keys(n.Tags)) {
		text += fmt.Sprintf(", %s=%s", k, n.Tags[k])
	}
	return text
}
