package wire

import (
	"fmt"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

// Phases of a report.
const (
	PhaseRejected = "rejected" // an infrastructure error before the user's process
	PhaseExited   = "exited"   // the outcome is known, logs and artifacts are not whole yet
	PhaseFinal    = "final"    // everything is in the bucket
)

// Report is an agent's news of an attempt that has to be committed.
type Report struct {
	Attempt     ci.AttemptID
	Fence       uint64
	Phase       string
	Outcome     ci.AttemptState // terminal; zero when rejected
	Reason      ci.Reason
	Message     string
	Exited      bool
	ExitCode    int
	Outputs     map[string]string
	Log         ci.LogManifest
	Artifacts   []ci.Artifact
	StartedAt   time.Time
	FinishedAt  time.Time
	ImageDigest string
}

// ReportMessage renders a report of an agent's session.
func ReportMessage(incarnation uint64, r *Report) *pb.ReportRequest {
	m := &pb.ReportRequest{
		Incarnation: incarnation,
		Attempt:     string(r.Attempt), Fence: r.Fence, Phase: r.Phase,
		Reason: string(r.Reason), Message: r.Message,
		Exited: r.Exited, ExitCode: int32(r.ExitCode), Outputs: r.Outputs,
		Log: &pb.WireManifest{
			Lines: r.Log.Lines, Bytes: r.Log.Bytes, Chunks: int32(r.Log.Chunks),
			Sha256: r.Log.SHA256, Truncated: r.Log.Truncated,
		},
		StartedAt: stamp(r.StartedAt), FinishedAt: stamp(r.FinishedAt), ImageDigest: r.ImageDigest,
	}
	if r.Outcome != 0 {
		m.Outcome = r.Outcome.String()
	}
	for _, f := range r.Artifacts {
		m.Artifacts = append(m.Artifacts, &pb.WireArtifact{Path: f.Path, Size: f.Size, Sha256: f.SHA256})
	}
	return m
}

// ReportFrom is the reverse of ReportMessage.
func ReportFrom(m *pb.ReportRequest) (*Report, error) {
	r := &Report{
		Attempt: ci.AttemptID(m.GetAttempt()), Fence: m.GetFence(), Phase: m.GetPhase(),
		Reason: ci.Reason(m.GetReason()), Message: m.GetMessage(),
		Exited: m.GetExited(), ExitCode: int(m.GetExitCode()), Outputs: m.GetOutputs(),
		Log: ci.LogManifest{
			Lines: m.GetLog().GetLines(), Bytes: m.GetLog().GetBytes(), Chunks: int(m.GetLog().GetChunks()),
			SHA256: m.GetLog().GetSha256(), Truncated: m.GetLog().GetTruncated(),
		},
		StartedAt: unstamp(m.GetStartedAt()), FinishedAt: unstamp(m.GetFinishedAt()),
		ImageDigest: m.GetImageDigest(),
	}
	for _, f := range m.GetArtifacts() {
		r.Artifacts = append(r.Artifacts, ci.Artifact{Path: f.GetPath(), Size: f.GetSize(), SHA256: f.GetSha256()})
	}
	switch r.Phase {
	case PhaseRejected:
		return r, nil
	case PhaseExited, PhaseFinal:
	default:
		return nil, ci.FieldErrorf(ci.Invalid, "phase", "cannot take a report of attempt %s: unknown phase %q", r.Attempt, r.Phase)
	}
	outcome, ok := ci.ParseAttemptState(m.GetOutcome())
	if !ok || !outcome.Terminal() {
		return nil, ci.FieldErrorf(ci.Invalid, "outcome", "cannot take a report of attempt %s: %q is no outcome", r.Attempt, m.GetOutcome())
	}
	r.Outcome = outcome
	return r, nil
}

// Progress is news of an attempt that may travel with a heartbeat; the newest
// stands, and a lost one costs nothing.
type Progress struct {
	Attempt     ci.AttemptID
	Fence       uint64
	State       ci.AttemptState // preparing, running or reporting
	StartedAt   time.Time
	Progress    float64 // 0..1, the step's own word
	Note        string
	ImageDigest string
}

// ProgressMessage renders progress.
func ProgressMessage(p *Progress) *pb.AttemptProgress {
	return &pb.AttemptProgress{
		Attempt: string(p.Attempt), Fence: p.Fence, State: p.State.String(),
		StartedAt: stamp(p.StartedAt), Progress: p.Progress, Note: p.Note, ImageDigest: p.ImageDigest,
	}
}

// ProgressFrom is the reverse of ProgressMessage.
func ProgressFrom(m *pb.AttemptProgress) (*Progress, error) {
	s, ok := ci.ParseAttemptState(m.GetState())
	if !ok || s < ci.AttemptPreparing || s > ci.AttemptReporting {
		return nil, fmt.Errorf("cannot take progress of attempt %s: %q is no state of a working attempt", m.GetAttempt(), m.GetState())
	}
	return &Progress{
		Attempt: ci.AttemptID(m.GetAttempt()), Fence: m.GetFence(), State: s,
		StartedAt: unstamp(m.GetStartedAt()), Progress: m.GetProgress(),
		Note: m.GetNote(), ImageDigest: m.GetImageDigest(),
	}, nil
}
