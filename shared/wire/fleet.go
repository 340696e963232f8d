package wire

import (
	"strconv"

	"github.com/slipway-ci/slipway/shared/ci"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

// Agent renders an agent and what it runs now: the resources its attempts have
// reserved and their names, RUN/STEP#NUMBER.
func Agent(a *ci.Agent, used ci.Resources, attempts []string) *pb.Agent {
	return &pb.Agent{
		Id: string(a.ID), Name: a.Name, State: string(a.State), Version: a.Version,
		Queues: a.Queues, Tags: a.Tags,
		Capacity: Resources(a.Capacity), Used: Resources(used),
		Slots: int32(a.Slots), Running: int32(len(attempts)), Executors: a.Executors,
		JoinedAt: stamp(a.JoinedAt), SeenAt: stamp(a.SeenAt),
		Attempts: attempts,
	}
}

// RegisterRequest is how an agent introduces itself to a cluster.
func RegisterRequest(cluster string, a *ci.Agent) *pb.RegisterRequest {
	return &pb.RegisterRequest{
		Name: a.Name, BootId: a.BootID, Version: a.Version, Queues: a.Queues, Tags: a.Tags,
		Capacity: &pb.CapacityInfo{
			MilliCpu: a.Capacity.MilliCPU, Memory: a.Capacity.Memory,
			Disk: a.Capacity.Disk, Pids: a.Capacity.Pids,
		},
		Slots: int32(a.Slots), Executors: a.Executors, Cluster: cluster,
	}
}

// RegisteredAgent is the reverse of RegisterRequest. The id is the caller's to
// take from the certificate, and everything else from the state.
func RegisteredAgent(m *pb.RegisterRequest) ci.Agent {
	return ci.Agent{
		Name: m.GetName(), BootID: m.GetBootId(), Version: m.GetVersion(),
		Queues: m.GetQueues(), Tags: m.GetTags(),
		Capacity: ci.Resources{
			MilliCPU: m.GetCapacity().GetMilliCpu(), Memory: m.GetCapacity().GetMemory(),
			Disk: m.GetCapacity().GetDisk(), Pids: m.GetCapacity().GetPids(),
		},
		Slots: int(m.GetSlots()), Executors: m.GetExecutors(),
	}
}

// AuditEntry renders one change.
func AuditEntry(e *ci.AuditEntry) *pb.AuditEntry {
	return &pb.AuditEntry{
		Index: strconv.FormatUint(e.Index, 10), At: stamp(e.At),
		Actor: e.Actor.String(), Action: e.Action,
		Tenant: string(e.Tenant), Run: string(e.Run), Step: e.Step, Sha: e.SHA,
		Reason: e.Reason, Before: e.Before, After: e.After,
	}
}
