package logpath

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-ci/slipway/shared/ci"
)

func TestParseReport(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]Report{
		"SUCCESS":                     {State: ReportSucceeded},
		" FAILURE\r\n":                {State: ReportFailed},
		"success":                     {State: ReportSucceeded},
		`{"state":"succeeded"}`:       {State: ReportSucceeded},
		`{"state":"FAILURE"}` + "\n":  {State: ReportFailed},
		`{"state":"running","x":[1]}`: {State: ReportRunning},
		`{"state":"running","progress":0.4,"message":"half"}`:                              {State: ReportRunning, Progress: 0.4, Message: "half"},
		`{"state":"running","progress":40}`:                                                {State: ReportRunning, Progress: 1},
		`{"state":"failed","outputs":{"a":"b","n":12345678901234567890,"t":true,"f":1.5}}`: {State: ReportFailed, Outputs: map[string]string{"a": "b", "n": "12345678901234567890", "t": "true", "f": "1.5"}},
	} {
		got, err := ParseReport([]byte(in))
		if err != nil {
			t.Errorf("%s: %v", in, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", in, diff)
		}
	}
	for _, in := range []string{
		"", " \n", "SUCC", "DONE", "running", "{", `{"state":"succeed`, `{}`, `{"state":"done"}`, `{"state":"failed"} {}`,
		`{"state":"failed","outputs":{"a":[1]}}`, `{"state":"failed","outputs":{"a b":"c"}}`, `{"state":"failed","outputs":{"a":null}}`,
		`{"state":"failed","outputs":{"a":"\u0000"}}`, `{"state":"running","message":"` + strings.Repeat("x", MaxReport) + `"}`,
	} {
		if got, err := ParseReport([]byte(in)); err == nil || ci.KindOf(err) != ci.Invalid {
			t.Errorf("%.60s: %+v, %v: want invalid", in, got, err)
		}
	}
}

func TestParseOutputs(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]map[string]string{
		"":                                     {},
		"a=b":                                  {"a": "b"},
		"a=b\n\nc=\nimage.digest=sha256:x=y\n": {"a": "b", "c": "", "image.digest": "sha256:x=y"},
		"a=1\na=2\n":                           {"a": "2"},
		"a=b\r\nc=d\r\n":                       {"a": "b", "c": "d"},
		"a=x<<EOF\n":                           {"a": "x<<EOF"},
		"a<<EOF\none\n two=3\n\nEOF\nb=c":      {"a": "one\n two=3\n", "b": "c"},
		"a<<E=F\nx\nE=F\n":                     {"a": "x"},
		"a<<EOF\nEOF":                          {"a": ""},
		"a= spaced value ":                     {"a": " spaced value "},
	} {
		got, err := ParseOutputs([]byte(in))
		if err != nil {
			t.Errorf("%q: %v", in, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", in, diff)
		}
	}
	for in, say := range map[string]string{
		"a=b\nnonsense":                       "line 2",
		"=b":                                  "line 1",
		"a b=c":                               "output name",
		"a<<EOF\nb\n":                         "nothing closes",
		"a<<\nb\n":                            "nothing closes",
		"a=\xff":                              "UTF-8",
		"a=\x00":                              "NUL",
		"a=" + strings.Repeat("x", MaxReport): "at most",
	} {
		if got, err := ParseOutputs([]byte(in)); err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%.40q: %v, %v: want %q", in, got, err, say)
		}
	}
}

func FuzzReports(f *testing.F) {
	f.Add([]byte(`{"state":"failed","outputs":{"a":"b"}}`))
	f.Add([]byte("a<<EOF\nb\nEOF"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = ParseReport(data)
		_, _ = ParseOutputs(data)
	})
}

func TestStatus(t *testing.T) {
	t.Parallel()
	code, at := 3, time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	want := Status{
		Attempt: "01a", Fence: 9, State: ci.AttemptFailed.String(), ExitCode: &code, Reason: ci.ReasonExitCode, Message: "m",
		StartedAt: &at, FinishedAt: at, Log: NewLogStatus(ci.LogManifest{Lines: 1, Bytes: 2, SHA256: "x", Chunks: 1}),
		Outputs: map[string]string{"a": "b"}, Artifacts: []ArtifactStatus{{Path: "p", Size: 1, SHA256: "y"}},
	}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Status
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if state, ok := got.Outcome(); !ok || state != ci.AttemptFailed {
		t.Errorf("outcome %v, %v", state, ok)
	}
	for _, s := range []string{"", "running", "FAILED"} {
		if _, ok := (Status{State: s}).Outcome(); ok {
			t.Errorf("%q names an outcome", s)
		}
	}
	if m := got.Log.Manifest(); m.Lines != 1 || m.SHA256 != "x" {
		t.Errorf("manifest %+v", m)
	}
}
