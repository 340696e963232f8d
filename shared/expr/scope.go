package expr

import (
	"fmt"
	"maps"
	"strconv"

	"github.com/slipway-ci/slipway/shared/ci"
)

// Scope is what the expressions of one step see: the values of its run at one
// moment, and the parameters with what a retry changed for this step. The zero
// Scope sees nothing.
type Scope struct {
	env    *Env
	run    *ci.Run
	step   string
	params map[string]string
}

var noEnv = NewEnv(&ci.Workflow{})

// ForRun returns the scope of a step of run; step may be "" for the run as a
// whole. It reads the run when an expression is evaluated, not before, so the
// run must not change meanwhile (rows never do).
func ForRun(run *ci.Run, step string) Scope {
	s := Scope{env: noEnv, run: run, step: step, params: Params(run, step)}
	if run.Workflow != nil {
		s.env = envOf(run.Workflow)
	}
	return s
}

// Params returns the effective parameters of a step: those of the run, with
// those that the retry of the step's present generation changed.
func Params(run *ci.Run, step string) map[string]string {
	sr := run.Step(step)
	if sr == nil || len(sr.Override.Params) == 0 {
		return run.Params
	}
	p := maps.Clone(run.Params)
	if p == nil {
		p = make(map[string]string, len(sr.Override.Params))
	}
	maps.Copy(p, sr.Override.Params)
	return p
}

// Variables returns what every script of the step finds of the run's values:
// PARAM_* for each parameter, STEP_<ID>_<OUTPUT> for each output that earlier
// steps have set, and in finally RUN_STATE.
func Variables(run *ci.Run, step string) map[string]string {
	vars := make(map[string]string)
	for name, v := range Params(run, step) {
		vars[ci.ParamEnv(name)] = v
	}
	if run.Workflow == nil {
		return vars
	}
	for i := range run.Workflow.Steps {
		def := &run.Workflow.Steps[i]
		if sr := stepRun(run, i); sr != nil && def.ID != step {
			for name, key := range def.Outputs {
				if v, ok := output(sr, name, key); ok {
					vars[ci.OutputEnv(def.ID, name)] = v
				}
			}
		}
	}
	if s := run.Workflow.Step(step); s != nil && s.Finally {
		vars["RUN_STATE"] = runState(run, step)
	}
	return vars
}

// stepRun returns the run of the workflow's step i, or nil. Both lists have the
// same order.
func stepRun(run *ci.Run, i int) *ci.StepRun {
	if id := run.Workflow.Steps[i].ID; i >= len(run.Steps) || run.Steps[i].ID != id {
		return run.Step(id)
	}
	return run.Steps[i]
}

// output returns an output by the name that the step declares, under which the
// state keeps it, else by the key that the step set.
func output(sr *ci.StepRun, name, key string) (string, bool) {
	if v, ok := sr.Outputs[name]; ok {
		return v, true
	}
	v, ok := sr.Outputs[key]
	return v, ok
}

// runState is run.state as an expression sees it. While the steps of finally
// run, the run as such is still running (or canceling); what they want to know
// is how the other steps ended.
func runState(run *ci.Run, step string) string {
	s := run.State
	if s.Terminal() || run.Workflow == nil {
		return string(s)
	}
	def := run.Workflow.Step(step)
	if def == nil || !def.Finally {
		return string(s)
	}
	if c := run.Cancel; c != nil {
		if c.Reason == ci.ReasonTimeout {
			return string(ci.RunTimedOut)
		}
		return string(ci.RunCanceled)
	}
	for i := range run.Workflow.Steps {
		sr := stepRun(run, i)
		if run.Workflow.Steps[i].Finally || sr == nil {
			continue
		}
		if sr.State.Failing() || sr.State == ci.StepCanceled {
			return string(ci.RunFailed)
		}
	}
	return string(ci.RunPassed)
}

// values returns the values of just what refs name, in the shape of Env.types.
func (s Scope) values(refs []Ref) (map[string]any, error) {
	roots := map[string]any{}
	for _, r := range refs {
		v, err := s.value(r)
		if err != nil {
			return nil, err
		}
		m := subValues(roots, r.Root)
		if r.Root == "steps" {
			m = subValues(m, r.Step)
			if r.Out {
				m = subValues(m, "outputs")
			}
		}
		m[r.Name] = v
	}
	return roots, nil
}

func subValues(m map[string]any, key string) map[string]any {
	sub, ok := m[key].(map[string]any)
	if !ok {
		sub = map[string]any{}
		m[key] = sub
	}
	return sub
}

func (s Scope) value(r Ref) (any, error) {
	switch r.Root {
	case "params":
		return s.param(r.Name)
	case "steps":
		sr := s.run.Step(r.Step)
		switch {
		case sr == nil && r.Out:
			return "", nil
		case sr == nil:
			return string(ci.StepPending), nil
		case r.Out:
			v, _ := output(sr, r.Name, s.env.steps[r.Step][r.Name])
			return v, nil
		default:
			return string(sr.State), nil
		}
	case "shard":
		return map[string]int{"index": 0, "count": 1}[r.Name], nil
	default:
		return s.text(r), nil
	}
}

func (s Scope) text(r Ref) string {
	src := s.run.Source
	switch r.String() {
	case "workflow.name":
		return s.run.Workflow.Name
	case "run.id":
		return string(s.run.ID)
	case "run.short_id":
		return tail(string(s.run.ID), 8) // the front of a ULID is its time
	case "run.state":
		return runState(s.run, s.step)
	case "run.sha":
		return src.SHA
	case "run.short_sha":
		return src.SHA[:min(7, len(src.SHA))]
	case "run.event":
		return "dispatch"
	case "ref.name":
		if src.Branch != "" {
			return src.Branch
		}
		return src.Tag
	case "ref.branch":
		return src.Branch
	case "ref.tag":
		return src.Tag
	case "ref.full":
		return src.Ref
	case "tenant.id":
		return string(s.run.Tenant)
	default:
		return ""
	}
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// param returns a parameter as a value of its type.
func (s Scope) param(name string) (any, error) {
	text, ok := s.params[name]
	if !ok {
		return nil, fmt.Errorf("the run has no value of parameter %s", name)
	}
	var v any = text
	var err error
	switch s.env.params[name] {
	case ci.ParamBoolean:
		v, err = strconv.ParseBool(text)
	case ci.ParamInteger:
		v, err = strconv.Atoi(text)
	case ci.ParamNumber:
		v, err = strconv.ParseFloat(text, 64)
	default:
	}
	if err != nil {
		return nil, fmt.Errorf("parameter %s is no %s: %q", name, s.env.params[name], text)
	}
	return v, nil
}
