package logpath

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/slipway-ci/slipway/shared/ci"
)

// MaxReport is the largest report and the largest output file in bytes.
const MaxReport = 64 << 10

// ReportState is a step's own word on how it goes.
type ReportState string

// The report states. All but running are final.
const (
	ReportRunning   ReportState = "running"
	ReportSucceeded ReportState = "succeeded"
	ReportFailed    ReportState = "failed"
)

// Final reports whether the step says that it is over.
func (s ReportState) Final() bool { return s == ReportSucceeded || s == ReportFailed }

// Report is the content of report.json or complete.
type Report struct {
	State    ReportState
	Message  string
	Progress float64 // clamped to 0..1
	Outputs  map[string]string
}

// ParseReport reads a report: a JSON object with state, message, progress and
// outputs, or the one word SUCCESS or FAILURE. A file that is still being
// written does not parse, and so is not a report yet.
func ParseReport(data []byte) (Report, error) {
	if len(data) > MaxReport {
		return Report{}, ci.Errorf(ci.Invalid, "cannot use report: %d bytes, at most %d are read", len(data), MaxReport)
	}
	data = bytes.TrimSpace(data)
	if len(data) == 0 {
		return Report{}, ci.Errorf(ci.Invalid, "cannot use report: it is empty")
	}
	if data[0] != '{' {
		state, ok := reportState(string(data))
		if !ok || !state.Final() {
			return Report{}, ci.Errorf(ci.Invalid, "cannot use report %.40q: write SUCCESS, FAILURE or a JSON object", data)
		}
		return Report{State: state}, nil
	}
	var w struct {
		State    string         `json:"state"`
		Message  string         `json:"message"`
		Progress float64        `json:"progress"`
		Outputs  map[string]any `json:"outputs"`
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // 12345678901234567890 stays what was written
	if err := d.Decode(&w); err != nil {
		return Report{}, ci.Errorf(ci.Invalid, "cannot use report: %w", err)
	}
	if d.More() {
		return Report{}, ci.Errorf(ci.Invalid, "cannot use report: there is something behind the JSON object")
	}
	state, ok := reportState(w.State)
	if !ok {
		return Report{}, ci.Errorf(ci.Invalid, "cannot use report: state %q is none of running, succeeded, failed", w.State)
	}
	outputs, err := scalars(w.Outputs)
	if err != nil {
		return Report{}, err
	}
	return Report{State: state, Message: w.Message, Progress: min(max(w.Progress, 0), 1), Outputs: outputs}, nil
}

func reportState(s string) (ReportState, bool) {
	switch strings.ToLower(s) {
	case "success", "succeeded":
		return ReportSucceeded, true
	case "failure", "failed":
		return ReportFailed, true
	case "running":
		return ReportRunning, true
	default:
		return "", false
	}
}

// scalars turns JSON values into text; lists and objects have none.
func scalars(in map[string]any) (map[string]string, error) {
	if len(in) == 0 {
		return nil, nil
	}
	out := make(map[string]string, len(in))
	for key, value := range in {
		if err := checkKey(key); err != nil {
			return nil, ci.Errorf(ci.Invalid, "cannot use report: %w", err)
		}
		var text string
		switch v := value.(type) {
		case string:
			text = v
		case bool:
			text = map[bool]string{true: "true", false: "false"}[v]
		case json.Number:
			text = v.String()
		default:
			return nil, ci.Errorf(ci.Invalid, "cannot use report: output %q is neither text, number nor boolean", key)
		}
		if err := checkValue(key, text); err != nil {
			return nil, ci.Errorf(ci.Invalid, "cannot use report: %w", err)
		}
		out[key] = text
	}
	return out, nil
}
