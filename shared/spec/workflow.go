package spec

import (
	"regexp"

	"go.yaml.in/yaml/v4"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/expr"
)

// workflow reads the whole file into p.w.
func (p *parser) workflow(root *yaml.Node) {
	m := p.mapping(root, workflowKeys)
	if m == nil {
		return
	}
	if v := m.at("version"); v != nil {
		if n, ok := p.integer(v, "version", 0, 1<<30); ok && n != 1 {
			p.errorf(v, codeValue, "", "this is version 1 of the format; %d is unknown", n)
		}
	}
	if v := m.at("name"); v != nil {
		if s, ok := p.text(v, "name"); ok {
			p.w.Name = s
		}
	}
	if v := m.at("description"); v != nil {
		p.w.Description, _ = p.text(v, "description")
	}
	if v := m.at("on"); v != nil {
		p.on(v)
	}
	if v := m.at("params"); v != nil {
		p.params(v)
	}
	if v := m.at("env"); v != nil {
		p.w.Env = p.env(v, use{step: noStep})
	}
	if v := m.at("timeout"); v != nil {
		p.w.Timeout, _ = p.duration(v, "timeout")
	}
	if v := m.at("queue_timeout"); v != nil {
		p.w.QueueTimeout, _ = p.duration(v, "queue_timeout")
	}
	if v := m.at("fail_fast"); v != nil {
		p.w.FailFast, _ = p.boolean(v, "fail_fast")
	}
	p.defaults = ci.Step{
		Pull: ci.PullIfNotPresent, Queue: "default", Shell: []string{"/bin/sh", "-e"},
		CancelSignal: "SIGTERM", CancelGrace: defaultGrace, Retry: defaultRetry(),
		Docker: ci.DockerNone, Completion: ci.CompletionAuto, Checkout: ci.Checkout{Path: "."}, S3: true,
	}
	if v := m.at("checkout"); v != nil {
		p.checkout(v, &p.defaults.Checkout)
	}
	if v := m.at("defaults"); v != nil {
		p.stepDefaults(v)
	}
	p.allSteps(m)
	p.lint()
}

// on reads the triggers: so far a run only starts when somebody asks for it.
func (p *parser) on(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.Value == "dispatch" {
		p.errorf(n, codeType, "as in { dispatch: true }", "on must be a mapping, not %s", kindName(n))
		return
	}
	if n.Kind != yaml.MappingNode {
		p.errorf(n, codeLater, "a run starts with slipway run or through the API", "%s as a trigger is not available yet", kindName(n))
		return
	}
	m := p.mapping(n, onKeys)
	if v := m.at("dispatch"); v != nil && !isNull(v) {
		p.w.Dispatch, _ = p.boolean(v, "dispatch")
	}
}

// allSteps reads steps and finally, then settles who waits for whom.
func (p *parser) allSteps(m *mapping) {
	n := m.at("steps")
	if n == nil {
		if m.keys["steps"] == nil {
			p.errorf(m.node, codeMissing, "the least is steps: with one run: and image:", "the workflow has no steps")
		}
	} else if items, ok := p.items(n, "steps"); ok {
		if len(items) == 0 {
			p.errorf(n, codeValue, "", "the workflow has no steps")
		}
		p.stepList(items, false)
	}
	if n := m.at("finally"); n != nil {
		if items, ok := p.items(n, "finally"); ok {
			p.stepList(items, true)
		}
	}
	p.graph()
}

func (p *parser) stepList(items []*yaml.Node, finally bool) {
	for i, n := range items {
		if i == MaxSteps || len(p.steps) == MaxSteps { // what is no step counts too
			p.errorf(n, codeLimit, "", "more than %d steps", MaxSteps)
			return
		}
		p.step(n, i+1, finally)
	}
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// env reads environment variables. u says where they stand.
func (p *parser) env(n *yaml.Node, u use) map[string]string {
	m := p.pairs(n, "env")
	if m == nil {
		return nil
	}
	u.kind = expr.Text
	out := make(map[string]string, len(m.list))
	total := 0
	for _, name := range m.list {
		if !envName.MatchString(name) {
			p.errorf(m.keys[name], codeValue, "letters, digits and _, not starting with a digit",
				"a variable cannot be called %s", short(name))
			continue
		}
		v := m.vals[name]
		if isNull(v) {
			p.errorf(m.keys[name], codeType, `write "" for an empty one`, "the variable %s has no value", name)
			continue
		}
		s, ok := p.template(v, name, u)
		if !ok {
			continue
		}
		if len(s) >= expr.MaxResult {
			p.errorf(v, codeLimit, "put it into a file", "the variable %s has more than %d KiB", name, expr.MaxResult>>10)
		}
		total += len(name) + len(s) + 2
		out[name] = s
	}
	if total > MaxEnv {
		p.errorf(n, codeLimit, "put it into files", "the environment has more than %d KiB", MaxEnv>>10)
	}
	return out
}

// checkout reads false, true or a mapping over what c holds.
func (p *parser) checkout(n *yaml.Node, c *ci.Checkout) {
	if n.Kind == yaml.ScalarNode {
		if b, ok := p.boolean(n, "checkout"); ok {
			c.Disabled = !b
		}
		return
	}
	m := p.mapping(n, checkoutKeys)
	if m == nil {
		return
	}
	c.Disabled = false
	if v := m.at("depth"); v != nil {
		c.Depth, _ = p.integer(v, "depth", 0, 1<<30)
	}
	if v := m.at("submodules"); v != nil {
		c.Submodules, _ = p.boolean(v, "submodules")
	}
	if v := m.at("lfs"); v != nil {
		c.LFS, _ = p.boolean(v, "lfs")
	}
	if v := m.at("path"); v != nil {
		if s, ok := p.text(v, "path"); ok {
			if msg := outside(s, false); msg != "" {
				p.errorf(v, codeValue, "", "checkout path %s", msg)
			}
			c.Path = s
		}
	}
}
