package spec

import (
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/expr"
)

// noStep is the place of what no single step owns: the workflow and defaults.
const noStep = -1

// use is a text with expressions, to be checked when all names are known.
type use struct {
	kind    expr.Kind
	src     string
	off     int        // of src in the node's value
	node    *yaml.Node // the scalar
	what    string     // the key, for messages
	step    int        // index, or noStep
	guarded bool       // decides what runs where: no untrusted values
	script  bool       // never templated: every ${{ is an error
}

// lint checks what concerns the workflow as a whole.
func (p *parser) lint() {
	p.collisions()
	p.expressions()
	p.timeouts()
}

// collisions refuses outputs that would share a variable.
func (p *parser) collisions() {
	owner := map[string]string{}
	for i := range p.w.Steps {
		s := &p.w.Steps[i]
		for _, name := range slices.Sorted(maps.Keys(s.Outputs)) {
			v := ci.OutputEnv(s.ID, name)
			this := "output " + name + " of step " + s.ID
			if other, ok := owner[v]; ok {
				p.errorf(p.steps[i].m.keys["outputs"], codeCollision, "", "%s and %s would both be $%s", other, this, v)
			}
			owner[v] = this
		}
	}
}

func (p *parser) timeouts() {
	if p.w.Timeout > 0 {
		return
	}
	for i := range p.w.Steps {
		if s := &p.w.Steps[i]; s.Timeout == 0 && s.Skip == "" {
			p.warnf(p.steps[i].node, codeNoTimeout, "give the workflow, defaults or the step a timeout",
				"nothing stops step %s if it hangs", s.ID)
			return // one is enough: the cure is the same for all
		}
	}
}

type checked struct {
	refs []expr.Ref
	errs []*expr.Error
}

// expressions checks every use. Equal sources are checked once: their cost is
// what bounds the time a file takes.
func (p *parser) expressions() {
	env := expr.NewEnv(p.w)
	type key struct {
		kind expr.Kind
		src  string
	}
	memo := map[key]checked{}
	index := map[string]int{}
	for i := range p.w.Steps {
		index[p.w.Steps[i].ID] = i
	}
	count := 0
	for _, u := range p.uses {
		c, ok := memo[key{u.kind, u.src}]
		if !ok {
			if count += max(1, strings.Count(u.src, "${{")); count > MaxExpressions {
				p.errorf(u.node, codeLimit, "", "more than %d different expressions", MaxExpressions)
				return
			}
			c.refs, c.errs = env.Check(u.kind, u.src)
			memo[key{u.kind, u.src}] = c
		}
		if u.script {
			p.scriptUse(u, c.refs)
			continue
		}
		for _, e := range c.errs {
			code := codeExpr
			if strings.HasSuffix(e.Msg, "is not available yet") {
				code = codeLater
			}
			p.useError(u, e.Off, code, e.Hint, "%s: %s", u.what, e.Msg)
		}
		for _, r := range c.refs {
			p.reference(u, r, index)
		}
		if u.kind == expr.Condition && len(c.refs) == 0 && len(c.errs) == 0 {
			p.constantIf(u)
		}
	}
}

func (p *parser) useError(u use, off int, code, hint, format string, args ...any) {
	line, col := p.source.place(u.node, u.off+off)
	p.errorAt(line, col, code, hint, format, args...)
}

// scriptUse refuses each ${{ of a script and says how to get at the value.
func (p *parser) scriptUse(u use, refs []expr.Ref) {
	for off := 0; ; {
		i := strings.Index(u.src[off:], "${{")
		if i < 0 {
			return
		}
		at := off + i
		off = at + 3
		end := len(u.src)
		if next := strings.Index(u.src[off:], "${{"); next >= 0 {
			end = off + next
		}
		hint := "set a variable in env: and use that"
		for _, r := range refs {
			if r.Off > at && r.Off < end && r.Variable() != "" {
				hint = "use $" + r.Variable()
				if u.what == "command" {
					hint = "only a shell knows variables: use run, with $" + r.Variable()
				}
				break
			}
		}
		p.useError(u, at, codeTemplate, hint, "%s is never templated", u.what)
	}
}

// reference checks what only the whole workflow can tell about a reference.
func (p *parser) reference(u use, r expr.Ref, index map[string]int) {
	if u.guarded && r.Untrusted() {
		p.useError(u, r.Off, codeUntrusted, "use a parameter",
			"%s: %s is chosen by whoever pushes and cannot decide what runs where", u.what, r)
	}
	if r.Root != "steps" {
		return
	}
	if u.step == noStep {
		p.useError(u, r.Off, codeExpr, "say it in the step that needs it", "%s: %s is not known to every step", u.what, r)
		return
	}
	target := index[r.Step]
	if target == u.step {
		p.useError(u, r.Off, codeExpr, "", "%s: a step cannot see its own %s", u.what, r.Name)
		return
	}
	if !p.order.waitsFor(u.step, target) {
		p.useError(u, r.Off, codeExpr, "add "+r.Step+" to its needs",
			"%s: step %s does not wait for step %s", u.what, p.w.Steps[u.step].ID, r.Step)
	}
}

func (p *parser) constantIf(u use) {
	v, err := expr.Eval(u.src, expr.Scope{})
	line, col := p.source.place(u.node, u.off)
	switch {
	case err != nil:
		p.errorAt(line, col, codeExpr, "", "%s", err)
	case v:
		p.add(Warning, line, col, codeConstantIf, "remove it", "if is always true")
	default:
		p.add(Warning, line, col, codeConstantIf, "skip: REASON leaves a step out and says why", "if is always false: the step never runs")
	}
}
