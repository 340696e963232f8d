package spec

import (
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/slipway-ci/slipway/shared/ci"
)

var (
	identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)
	paramTypes = []string{
		string(ci.ParamString), string(ci.ParamInteger), string(ci.ParamNumber),
		string(ci.ParamBoolean), string(ci.ParamChoice),
	}
)

func (p *parser) params(n *yaml.Node) {
	m := p.pairs(n, "params")
	if m == nil {
		return
	}
	vars := map[string]string{}
	for i, name := range m.list {
		key := m.keys[name]
		if i == MaxParams {
			p.errorf(key, codeLimit, "", "more than %d parameters", MaxParams)
			return
		}
		if !identifier.MatchString(name) {
			hint := "letters, digits and _, not starting with a digit"
			if fixed := strings.ReplaceAll(name, "-", "_"); identifier.MatchString(fixed) {
				hint = "did you mean " + fixed + "?"
			}
			p.errorf(key, codeValue, hint, "a parameter cannot be called %s", short(name))
			continue
		}
		v := ci.ParamEnv(name)
		if other, ok := vars[v]; ok {
			p.errorf(key, codeCollision, "", "the parameters %s and %s would both be $%s", other, name, v)
			continue
		}
		vars[v] = name
		if param, ok := p.param(name, m.vals[name]); ok {
			p.w.Params = append(p.w.Params, param)
		}
	}
}

// param reads one parameter. When it is not right, a parameter of some type
// still comes back, so that the expressions that use it are not blamed.
func (p *parser) param(name string, n *yaml.Node) (ci.Param, bool) {
	param := ci.Param{Name: name, Type: ci.ParamString}
	if n.Kind != yaml.MappingNode {
		p.errorf(n, codeType, "as in { type: string, default: ... }", "parameter %s must be a mapping, not %s", name, kindName(n))
		return param, true
	}
	m := p.mapping(n, paramKeys)
	before := len(p.found)
	if v := m.at("type"); v != nil {
		if t, ok := p.oneOf(v, "type", paramTypes...); ok {
			param.Type = ci.ParamType(t)
		}
	} else if m.has("options") {
		param.Type = ci.ParamChoice
	}
	if v := m.at("description"); v != nil {
		param.Description, _ = p.text(v, "description")
	}
	p.paramBounds(m, &param)
	if v := m.at("default"); v != nil && len(p.found) == before {
		p.paramDefault(v, &param)
	}
	return param, true
}

// paramBounds reads the keys that only some types have.
func (p *parser) paramBounds(m *mapping, param *ci.Param) {
	numeric := param.Type == ci.ParamInteger || param.Type == ci.ParamNumber
	only := func(key string, ok bool, types string) *yaml.Node {
		v := m.at(key)
		if v != nil && !ok {
			p.errorf(m.keys[key], codeValue, "", "%s is only for parameters of type %s", key, types)
			return nil
		}
		return v
	}
	for key, to := range map[string]**float64{"min": &param.Min, "max": &param.Max} {
		if v := only(key, numeric, "integer or number"); v != nil {
			if f, ok := p.number(v, key); ok {
				*to = &f
			}
		}
	}
	if param.Min != nil && param.Max != nil && *param.Min > *param.Max {
		p.errorf(m.keys["max"], codeValue, "", "max is less than min")
	}
	for key, to := range map[string]*int{"min_length": &param.MinLength, "max_length": &param.MaxLength} {
		if v := only(key, param.Type == ci.ParamString, "string"); v != nil {
			*to, _ = p.integer(v, key, 0, MaxParamLength)
		}
	}
	if param.MaxLength > 0 && param.MinLength > param.MaxLength {
		p.errorf(m.keys["max_length"], codeValue, "", "max_length is less than min_length")
	}
	if v := only("pattern", param.Type == ci.ParamString, "string"); v != nil {
		if s, ok := p.text(v, "pattern"); ok {
			if _, err := compilePattern(s); err != nil {
				p.errorf(v, codeValue, "", "%s", err)
			}
			param.Pattern = s
		}
	}
	if v := only("options", param.Type == ci.ParamChoice, "choice"); v != nil {
		param.Options = p.options(v)
	} else if param.Type == ci.ParamChoice && !m.has("options") {
		p.errorf(m.node, codeMissing, "", "a choice needs options")
	}
}

func (p *parser) options(n *yaml.Node) []string {
	items, ok := p.items(n, "options")
	if !ok {
		return nil
	}
	if len(items) == 0 {
		p.errorf(n, codeValue, "", "options is empty")
	}
	var out []string
	for _, item := range items {
		s, ok := p.scalar(item, "options")
		switch {
		case !ok:
		case slices.Contains(out, s):
			p.errorf(item, codeDuplicate, "", "the option %s is there twice", short(s))
		default:
			out = append(out, s)
		}
	}
	return out
}

func (p *parser) paramDefault(n *yaml.Node, param *ci.Param) {
	var text string
	var ok bool
	switch param.Type {
	case ci.ParamBoolean:
		if _, ok = p.boolean(n, "default"); ok {
			text = strings.ToLower(n.Value)
		}
	case ci.ParamInteger, ci.ParamNumber:
		if _, ok = p.number(n, "default"); ok {
			text = n.Value
		}
	default:
		text, ok = p.scalar(n, "default")
	}
	if !ok {
		return
	}
	value, err := canonical(param, text)
	if err != nil {
		p.errorf(n, codeValue, "", "default: %s", err)
		return
	}
	param.Default = &value
}
