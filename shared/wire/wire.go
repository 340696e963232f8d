// Package wire turns the vocabulary into messages and back, and errors into
// codes and back, so that no other package has to know both.
package wire

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/slipway-ci/slipway/shared/ci"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

// stamp turns a zero time into no time at all.
func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// unstamp is the reverse of stamp; times come back in UTC.
func unstamp(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// Resources turns thousandths of a core into cores.
func Resources(r ci.Resources) *pb.Resources {
	return &pb.Resources{
		Cpu:    float64(r.MilliCPU) / 1000,
		Memory: float64(r.Memory),
		Disk:   float64(r.Disk),
		Pids:   float64(r.Pids),
	}
}

// WaitReason renders why a step waits; nil stays nil.
func WaitReason(w *ci.WaitReason) *pb.WaitReason {
	if w == nil {
		return nil
	}
	return &pb.WaitReason{Code: string(w.Code), Message: w.Message, Detail: w.Detail, Since: stamp(w.Since)}
}
