package expr

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/expr-lang/expr/types"

	"github.com/slipway-ci/slipway/shared/ci"
)

// Env is the typed environment of a workflow: what its expressions may name.
type Env struct {
	params map[string]ci.ParamType
	steps  map[string]map[string]string // step to its outputs: name to key
	digest string                       // of all of it: equal environments share programs
}

// NewEnv returns the environment of w's expressions: its parameters, its steps
// and their outputs. It keeps no reference to w.
func NewEnv(w *ci.Workflow) *Env {
	e := &Env{
		params: make(map[string]ci.ParamType, len(w.Params)),
		steps:  make(map[string]map[string]string, len(w.Steps)),
	}
	h := sha256.New()
	for _, p := range w.Params {
		e.params[p.Name] = p.Type
		fmt.Fprintf(h, "p%q%q", p.Name, p.Type)
	}
	for i := range w.Steps {
		s := &w.Steps[i]
		outputs := make(map[string]string, len(s.Outputs))
		names := make([]string, 0, len(s.Outputs))
		for name, key := range s.Outputs {
			outputs[name] = key
			names = append(names, name)
		}
		e.steps[s.ID] = outputs
		slices.Sort(names)
		fmt.Fprintf(h, "s%q%q", s.ID, names)
	}
	e.digest = hex.EncodeToString(h.Sum(nil))
	return e
}

// Ref is one value that an expression names, such as params.suite or
// steps.build.outputs.digest.
type Ref struct {
	Root string // params, run, steps, ...
	Step string // of steps
	Name string // the field; of steps "state" or the output's name
	Out  bool   // Name is an output of Step
	Off  int    // byte offset in the source
}

// Untrusted reports whether someone who may only push a branch or open a pull
// request can choose the value.
func (r Ref) Untrusted() bool { return r.Root == "ref" }

// String renders the reference as it is written.
func (r Ref) String() string {
	switch {
	case r.Out:
		return "steps." + r.Step + ".outputs." + r.Name
	case r.Root == "steps":
		return "steps." + r.Step + "." + r.Name
	default:
		return r.Root + "." + r.Name
	}
}

// Variable returns the environment variable in which a script finds the value,
// or "" when there is none.
func (r Ref) Variable() string {
	if r.Out {
		return ci.OutputEnv(r.Step, r.Name)
	}
	switch r.String() {
	case "workflow.name":
		return "SLIPWAY_WORKFLOW"
	case "run.id":
		return "SLIPWAY_RUN_ID"
	case "run.sha":
		return "SLIPWAY_SHA"
	case "run.state":
		return "RUN_STATE"
	case "ref.branch", "ref.name":
		return "SLIPWAY_BRANCH"
	case "ref.tag":
		return "SLIPWAY_TAG"
	case "ref.full":
		return "SLIPWAY_REF"
	case "tenant.id":
		return "SLIPWAY_TENANT"
	case "shard.index":
		return "SHARD_INDEX"
	case "shard.count":
		return "SHARD_COUNT"
	}
	switch r.Root {
	case "params":
		return ci.ParamEnv(r.Name)
	case "matrix":
		return "MATRIX_" + strings.TrimPrefix(ci.ParamEnv(r.Name), "PARAM_")
	default:
		return ""
	}
}

// fixed are the roots whose fields do not depend on the workflow.
var fixed = map[string]map[string]types.Type{
	"workflow": {"name": types.String},
	"run": {
		"id": types.String, "short_id": types.String, "state": types.String,
		"sha": types.String, "short_sha": types.String, "event": types.String,
	},
	"ref":    {"name": types.String, "branch": types.String, "tag": types.String, "full": types.String},
	"shard":  {"index": types.Int, "count": types.Int},
	"tenant": {"id": types.String},
}

// later are roots that the format has and this version has not.
var later = map[string]bool{"matrix": true, "environment": true, "pr": true, "commit": true, "secrets": true, "services": true}

func rootNames() []string {
	names := []string{"params", "steps"}
	for r := range fixed {
		names = append(names, r)
	}
	return names
}

// typeOf returns the type of a reference that was found to exist.
func (e *Env) typeOf(r Ref) types.Type {
	switch r.Root {
	case "params":
		switch e.params[r.Name] {
		case ci.ParamBoolean:
			return types.Bool
		case ci.ParamInteger:
			return types.Int
		case ci.ParamNumber:
			return types.Float64
		default:
			return types.String
		}
	case "steps":
		return types.String
	default:
		return fixed[r.Root][r.Name]
	}
}

// types returns the types of just the values that refs name: a workflow may
// have thousands of steps and thousands of expressions.
func (e *Env) types(refs []Ref) types.Map {
	roots := types.Map{}
	for _, r := range refs {
		m := subMap(roots, r.Root)
		if r.Root == "steps" {
			m = subMap(m, r.Step)
			if r.Out {
				m = subMap(m, "outputs")
			}
		}
		m[r.Name] = e.typeOf(r)
	}
	return roots
}

func subMap(m types.Map, key string) types.Map {
	sub, ok := m[key].(types.Map)
	if !ok {
		sub = types.Map{}
		m[key] = sub
	}
	return sub
}
