package spec

import (
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/slipway-ci/slipway/shared/ci"
)

// The defaults of a retry rule.
const (
	retryLimit    = 2
	retryLimitMax = 20
)

var defaultBackoff = ci.Backoff{Initial: 5 * time.Second, Factor: 2, Max: 2 * time.Minute}

// defaultRetry are the rules of a step that gives none: failures of the fleet,
// never those of the user's process.
func defaultRetry() []ci.RetryRule {
	return []ci.RetryRule{
		{On: []ci.Reason{ci.ReasonAgentLost, ci.ReasonAgentShutdown}, Limit: retryLimit, Backoff: defaultBackoff, Different: true},
		{On: []ci.Reason{ci.ReasonImagePull, ci.ReasonCheckout, ci.ReasonInfra}, Limit: retryLimit, Backoff: defaultBackoff},
	}
}

// retry reads the rules of a step; an empty list is none at all.
func (p *parser) retry(n *yaml.Node) []ci.RetryRule {
	items, ok := p.items(n, "retry")
	if !ok {
		return nil
	}
	rules := make([]ci.RetryRule, 0, len(items))
	for _, item := range items {
		if m := p.mapping(item, retryKeys); m != nil {
			rules = append(rules, p.retryRule(m))
		}
	}
	return rules
}

func (p *parser) retryRule(m *mapping) ci.RetryRule {
	r := ci.RetryRule{Limit: retryLimit, Backoff: defaultBackoff}
	if v := m.at("on"); v != nil {
		r.On = p.reasons(v)
	}
	if v := m.at("exit_codes"); v != nil {
		r.ExitCodes = p.exitCodes(v)
	}
	if m.keys["on"] == nil && m.keys["exit_codes"] == nil {
		p.errorf(m.node, codeMissing, "", "a retry rule needs on or exit_codes")
	}
	if v := m.at("limit"); v != nil {
		r.Limit, _ = p.integer(v, "limit", 1, retryLimitMax)
	}
	if v := m.at("backoff"); v != nil {
		p.backoff(v, &r.Backoff)
	}
	r.Different = slices.ContainsFunc(r.On, func(on ci.Reason) bool { return strings.HasPrefix(string(on), "agent_") })
	if v := m.at("agent"); v != nil {
		if w, ok := p.oneOf(v, "agent", "different", "any"); ok {
			r.Different = w == "different"
		}
	}
	if v := m.at("resources"); v != nil {
		res := p.mapping(v, retryResKeys)
		if v := res.at("memory"); v != nil {
			r.Memory, _ = p.size(v, "memory")
		}
		if v := res.at("cpu"); v != nil {
			r.MilliCPU, _ = p.cpu(v, "cpu")
		}
	}
	return r
}

func (p *parser) reasons(n *yaml.Node) []ci.Reason {
	known := make([]string, len(ci.Reasons))
	for i, r := range ci.Reasons {
		known[i] = string(r)
	}
	var out []ci.Reason
	p.texts(n, "on", func(item *yaml.Node, what string) (string, bool) {
		s, ok := p.text(item, what)
		switch {
		case !ok:
		case !slices.Contains(known, s):
			hint := p.suggestion(s, known)
			if hint == "" {
				hint = "the reasons are " + strings.Join(known, ", ")
			}
			p.errorf(item, codeValue, hint, "%s is no reason to retry on", short(s))
		case slices.Contains(out, ci.Reason(s)):
			p.errorf(item, codeDuplicate, "", "on names %s twice", s)
		default:
			out = append(out, ci.Reason(s))
		}
		return s, ok
	})
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		p.errorf(n, codeValue, "", "on is empty")
	}
	return out
}

// exitCodes reads a list of exit codes of failures.
func (p *parser) exitCodes(n *yaml.Node) []int {
	items := []*yaml.Node{n}
	if n.Kind != yaml.ScalarNode {
		var ok bool
		if items, ok = p.items(n, "exit_codes"); !ok {
			return nil
		}
	}
	if len(items) == 0 {
		p.errorf(n, codeValue, "", "exit_codes is empty")
	}
	var out []int
	for _, item := range items {
		if c, ok := p.integer(item, "an exit code", 1, 255); ok && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

// backoff reads a duration or a mapping over the defaults.
func (p *parser) backoff(n *yaml.Node, b *ci.Backoff) {
	if n.Kind == yaml.ScalarNode {
		b.Initial, _ = p.duration(n, "backoff")
		b.Max = max(b.Max, b.Initial)
		return
	}
	m := p.mapping(n, backoffKeys)
	if v := m.at("initial"); v != nil {
		b.Initial, _ = p.duration(v, "initial")
		b.Max = max(b.Max, b.Initial)
	}
	if v := m.at("factor"); v != nil {
		f, ok := p.number(v, "factor")
		if ok && (f < 1 || f > 100) {
			p.errorf(v, codeValue, "", "factor must be from 1 to 100")
		}
		b.Factor = f
	}
	if v := m.at("max"); v != nil {
		if d, ok := p.duration(v, "max"); ok {
			if d < b.Initial {
				p.errorf(v, codeValue, "", "max is less than initial")
			}
			b.Max = d
		}
	}
}

func (p *parser) softFail(n *yaml.Node) ci.SoftFail {
	if n.Kind == yaml.ScalarNode {
		b, _ := p.boolean(n, "soft_fail")
		return ci.SoftFail{Any: b}
	}
	m := p.mapping(n, softFailKeys)
	if m == nil {
		return ci.SoftFail{}
	}
	v := m.at("exit_codes")
	if v == nil {
		if m.keys["exit_codes"] == nil {
			p.errorf(n, codeMissing, "", "soft_fail needs exit_codes, or to be true")
		}
		return ci.SoftFail{}
	}
	return ci.SoftFail{ExitCodes: p.exitCodes(v)}
}
