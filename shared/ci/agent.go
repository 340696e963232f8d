package ci

import "time"

// AgentState is where an agent stands.
type AgentState string

// The agent states. Silent is a flag of the lease, undone by a heartbeat.
const (
	AgentReady    AgentState = "ready"
	AgentDraining AgentState = "draining"
	AgentSilent   AgentState = "silent"
	AgentGone     AgentState = "gone"
)

// Agent is a build host's agent as the cluster knows it.
type Agent struct {
	ID          AgentID
	Name        string
	BootID      string // of the kernel; another one means that the host rebooted
	Incarnation uint64 // raised by every registration; older sessions are refused
	Version     string
	Queues      []string
	Tags        map[string]string
	Capacity    Resources
	Slots       int // steps at once
	Executors   []string
	State       AgentState
	Tenant      TenantID  // dedicated to, or empty for shared
	JoinedAt    time.Time // wall
	SeenAt      time.Time // wall, checkpointed
	Seen        ClusterTime
}

// Has reports whether the agent runs the given executor.
func (a *Agent) Has(executor string) bool {
	for _, e := range a.Executors {
		if e == executor {
			return true
		}
	}
	return false
}
