package logpath

import (
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
)

// Status is status.json: how an attempt ended. It is put once, when logs and
// artifacts are whole, and is the truth while the cluster's state has none.
type Status struct {
	Attempt     ci.AttemptID      `json:"attempt"`
	Fence       uint64            `json:"fence"`
	State       string            `json:"state"`     // succeeded, failed, canceled, timed_out, rejected, lost
	ExitCode    *int              `json:"exit_code"` // null when the user's code never ended by itself
	Reason      ci.Reason         `json:"reason"`
	Message     string            `json:"message"`
	StartedAt   *time.Time        `json:"started_at"` // null when it never started
	FinishedAt  time.Time         `json:"finished_at"`
	ImageDigest string            `json:"image_digest,omitempty"`
	Log         LogStatus         `json:"log"`
	Outputs     map[string]string `json:"outputs"`
	Artifacts   []ArtifactStatus  `json:"artifacts"`
}

// LogStatus is the log's manifest within a status.
type LogStatus struct {
	Lines     int64  `json:"lines"`
	Bytes     int64  `json:"bytes"`
	SHA256    string `json:"sha256"`
	Chunks    int    `json:"chunks"`
	Truncated bool   `json:"truncated"`
}

// ArtifactStatus is one artifact within a status.
type ArtifactStatus struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// NewLogStatus converts a manifest.
func NewLogStatus(m ci.LogManifest) LogStatus {
	return LogStatus{Lines: m.Lines, Bytes: m.Bytes, SHA256: m.SHA256, Chunks: m.Chunks, Truncated: m.Truncated}
}

// Manifest converts back.
func (l LogStatus) Manifest() ci.LogManifest {
	return ci.LogManifest{Lines: l.Lines, Bytes: l.Bytes, SHA256: l.SHA256, Chunks: l.Chunks, Truncated: l.Truncated}
}

// Outcome returns the terminal attempt state that the status names, and
// whether it names one.
func (s Status) Outcome() (ci.AttemptState, bool) {
	for _, state := range ci.AttemptStates {
		if state.Terminal() && state.String() == s.State {
			return state, true
		}
	}
	return 0, false
}

// State is state.json: where a live attempt stands, written best effort.
type State struct {
	Attempt   ci.AttemptID `json:"attempt"`
	Fence     uint64       `json:"fence"`
	State     string       `json:"state"` // preparing, running, reporting
	StartedAt *time.Time   `json:"started_at"`
	Progress  float64      `json:"progress"` // 0..1, the step's own word
	Message   string       `json:"message"`
	At        time.Time    `json:"at"`
}
