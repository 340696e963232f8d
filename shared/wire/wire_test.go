package wire

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/slipway-ci/slipway/shared/ci"
)

// filler gives every field of a value something that is not zero and that
// differs from field to field.
type filler struct{ n int64 }

func (f *filler) fill(v reflect.Value) {
	f.n++
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(1_700_000_000+f.n, 5).UTC()))
		return
	case ci.AttemptState:
		v.Set(reflect.ValueOf(ci.AttemptFailed))
		return
	case ci.Want:
		v.Set(reflect.ValueOf(ci.WantTimeout))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("s" + time.Duration(f.n).String())
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(f.n)
	case reflect.Uint64, reflect.Uint8:
		v.SetUint(uint64(f.n))
	case reflect.Float64:
		v.SetFloat(float64(f.n) / 8)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			f.fill(v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, val := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		f.fill(key)
		f.fill(val)
		v.SetMapIndex(key, val)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				f.fill(v.Field(i))
			}
		}
	default:
		panic("filler: " + v.Kind().String())
	}
}

func filled[T any]() *T {
	v := new(T)
	(&filler{}).fill(reflect.ValueOf(v).Elem())
	return v
}

// unset lists the fields of a message, and of those below it, that are empty.
func unset(prefix string, m protoreflect.Message) (out []string) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		name := prefix + string(f.Name())
		switch {
		case !m.Has(f):
			out = append(out, name)
		case f.IsMap() || f.Message() == nil || f.Message().FullName() == "google.protobuf.Timestamp":
		case f.IsList():
			out = append(out, unset(name+".", m.Get(f).List().Get(0).Message())...)
		default:
			out = append(out, unset(name+".", m.Get(f).Message())...)
		}
	}
	return out
}

func wantAllSet(t *testing.T, m proto.Message, except ...string) {
	t.Helper()
	got := strings.Join(unset("", m.ProtoReflect()), " ")
	if want := strings.Join(except, " "); got != want {
		t.Errorf("empty fields of %T:\n got %q\nwant %q", m, got, want)
	}
}

func TestAssignmentRoundTrip(t *testing.T) {
	t.Parallel()
	want := filled[Assignment]()
	m, err := AssignmentMessage(want)
	if err != nil {
		t.Fatal(err)
	}
	wantAllSet(t, m)
	got, err := AssignmentFrom(m)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	m.Want = "explode"
	if _, err := AssignmentFrom(m); err == nil {
		t.Error("an unknown want was taken")
	}
}

func TestReportRoundTrip(t *testing.T) {
	t.Parallel()
	for _, phase := range []string{PhaseExited, PhaseFinal} {
		want := filled[Report]()
		want.Phase = phase
		m := ReportMessage(7, want)
		wantAllSet(t, m)
		got, err := ReportFrom(m)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	rejected := &Report{Attempt: "a", Fence: 3, Phase: PhaseRejected, Reason: ci.ReasonImagePull}
	if got, err := ReportFrom(ReportMessage(7, rejected)); err != nil || cmp.Diff(rejected, got) != "" {
		t.Errorf("rejected: got %+v, %v", got, err)
	}
	for _, bad := range []*Report{{Phase: "someday"}, {Phase: PhaseFinal, Outcome: ci.AttemptRunning}, {Phase: PhaseExited}} {
		if _, err := ReportFrom(ReportMessage(7, bad)); ci.KindOf(err) != ci.Invalid {
			t.Errorf("report %+v: got %v, want a refusal", bad, err)
		}
	}
}

func TestProgressRoundTrip(t *testing.T) {
	t.Parallel()
	want := filled[Progress]()
	want.State = ci.AttemptRunning
	m := ProgressMessage(want)
	wantAllSet(t, m)
	got, err := ProgressFrom(m)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	m.State = "succeeded"
	if _, err := ProgressFrom(m); err == nil {
		t.Error("a terminal state was taken as progress")
	}
}

func TestRegisterRoundTrip(t *testing.T) {
	t.Parallel()
	want := filled[ci.Agent]()
	m := RegisterRequest("c1", want)
	wantAllSet(t, m)
	got := RegisteredAgent(m)
	// These are the state's and the certificate's to say, not the agent's.
	want.ID, want.Incarnation, want.State, want.Tenant = "", 0, "", ""
	want.JoinedAt, want.SeenAt, want.Seen = time.Time{}, time.Time{}, 0
	if d := cmp.Diff(*want, got); d != "" {
		t.Error(d)
	}
}

func TestNothingForgotten(t *testing.T) {
	t.Parallel()
	run := filled[ci.Run]()
	run.State = ci.RunFailed
	run.Workflow.Steps[0].ID = run.Steps[0].ID
	s := run.Steps[0]
	s.Message = "m"
	last := s.Attempts[len(s.Attempts)-1]
	last.Generation, last.State = s.Generation, ci.AttemptReporting
	m := Run(run, RunContext{
		AgentName: func(ci.AgentID) string { return "builder" },
		LogPath:   func(*ci.Run, string, *ci.Attempt) string { return "s3://b/p" },
		Wait:      func(*ci.Run, *ci.StepRun) *ci.WaitReason { return filled[ci.WaitReason]() },
	})
	wantAllSet(t, m, "final") // one attempt still reports
	if a := m.Steps[0].Attempts[0]; a.Agent != "builder" || a.LogPath != "s3://b/p" {
		t.Errorf("attempt: %v", a)
	}
	wantAllSet(t, Agent(filled[ci.Agent](), ci.Resources{MilliCPU: 1, Memory: 2, Disk: 3, Pids: 4}, []string{"r/s#1"}))
	wantAllSet(t, AuditEntry(filled[ci.AuditEntry]()))
	row := RunRow(run)
	wantAllSet(t, row, "final", "steps")
}
