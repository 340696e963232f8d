package spec

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	"go.yaml.in/yaml/v4"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/expr"
)

var outputName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]{0,63}$`)

// outputs reads the outputs of a step: a mapping of name to the key that the
// step sets, or a list of keys that are their own names.
func (p *parser) outputs(n *yaml.Node) map[string]string {
	out := map[string]string{}
	put := func(at *yaml.Node, name, key string) {
		for _, s := range []string{name, key} {
			if !outputName.MatchString(s) {
				p.errorf(at, codeValue, "letters, digits, . _ and -, starting with a letter, at most 64", "an output cannot be called %s", short(s))
				return
			}
		}
		if _, ok := out[name]; ok {
			p.errorf(at, codeDuplicate, "", "the output %s is there twice", name)
			return
		}
		out[name] = key
	}
	if n.Kind != yaml.MappingNode {
		for _, item := range p.outputList(n) {
			if s, ok := p.text(item, "outputs"); ok {
				put(item, s, s)
			}
		}
		return out
	}
	m := p.pairs(n, "outputs")
	for _, name := range m.list {
		if key, ok := p.text(m.vals[name], "output "+short(name)); ok {
			put(m.keys[name], name, key)
		}
	}
	return out
}

func (p *parser) outputList(n *yaml.Node) []*yaml.Node {
	if n.Kind == yaml.ScalarNode {
		return []*yaml.Node{n}
	}
	items, _ := p.items(n, "outputs")
	return items
}

func (p *parser) artifacts(n *yaml.Node, index int) []ci.ArtifactSpec {
	items, ok := p.items(n, "artifacts")
	if !ok {
		return nil
	}
	u := use{kind: expr.Text, step: index}
	out := make([]ci.ArtifactSpec, 0, len(items))
	for _, item := range items {
		if item.Kind == yaml.ScalarNode {
			p.errorf(item, codeType, "as in { paths: ["+short(item.Value)+"] }", "an artifact must be a mapping, not %s", kindName(item))
			continue
		}
		m := p.mapping(item, artifactKeys)
		if m == nil {
			continue
		}
		a := ci.ArtifactSpec{When: "passed"}
		if v := m.at("paths"); v != nil {
			a.Paths = p.texts(v, "paths", func(n *yaml.Node, what string) (string, bool) { return p.glob(n, what, u) })
		}
		if m.keys["paths"] == nil || m.has("paths") && m.at("paths").Kind == yaml.SequenceNode && len(m.at("paths").Content) == 0 {
			p.errorf(item, codeMissing, "", "an artifact needs paths")
		}
		if v := m.at("name"); v != nil {
			if s, ok := p.template(v, "name", u); ok {
				if msg := outside(literal(s), false); msg != "" {
					p.errorf(v, codeValue, "", "the name of an artifact %s", msg)
				}
				a.Name = s
			}
		}
		if v := m.at("when"); v != nil {
			if s, ok := p.oneOf(v, "when", "always", "passed", "failed"); ok {
				a.When = s
			}
		}
		if v := m.at("expire"); v != nil {
			a.Expire, _ = p.duration(v, "expire")
		}
		out = append(out, a)
	}
	return out
}

// glob reads a pattern of files below the workspace.
func (p *parser) glob(n *yaml.Node, what string, u use) (string, bool) {
	s, ok := p.template(n, what, u)
	if !ok {
		return "", false
	}
	if msg := badGlob(literal(s)); msg != "" {
		p.errorf(n, codeValue, "it is below the workspace", "%s: %s %s", what, short(s), msg)
		return "", false
	}
	return s, true
}

func badGlob(s string) string {
	if msg := outside(s, false); msg != "" {
		return msg
	}
	if !doublestar.ValidatePattern(s) {
		return "is no valid pattern"
	}
	return ""
}

// literal puts a harmless word in the place of every template.
var templateText = regexp.MustCompile(`\$\{\{.*?\}\}`)

func literal(s string) string { return templateText.ReplaceAllString(s, "x") }

// outside says how a path leaves the place it is below, or "". Absolute ones
// are fine only where abs says so.
func outside(s string, abs bool) string {
	switch {
	case strings.TrimSpace(s) == "":
		return "is empty"
	case path.IsAbs(s) && !abs:
		return "must be relative"
	case strings.ContainsAny(s, "\\\n\r\x00"):
		return "holds a character that no path may hold"
	case strings.HasPrefix(s, "~"):
		return "cannot start with ~"
	case slices.Contains(strings.Split(s, "/"), ".."):
		return "cannot hold .."
	default:
		return ""
	}
}

func (p *parser) caches(n *yaml.Node, index int) []ci.CacheSpec {
	items, ok := p.items(n, "cache")
	if !ok {
		return nil
	}
	out := make([]ci.CacheSpec, 0, len(items))
	seen := map[string]bool{}
	for _, item := range items {
		m := p.mapping(item, cacheKeys)
		if m == nil {
			continue
		}
		c := p.cache(m, use{kind: expr.CacheKey, step: index})
		if clean := path.Clean(c.Path); c.Path != "" {
			if seen[clean] {
				p.errorf(m.at("path"), codeDuplicate, "", "two caches are at %s", short(c.Path))
			}
			seen[clean] = true
		}
		out = append(out, c)
	}
	return out
}

func (p *parser) cache(m *mapping, u use) ci.CacheSpec {
	c := ci.CacheSpec{Scope: "workflow", Mode: "shared"}
	for _, key := range []string{"path", "key"} {
		if m.keys[key] == nil {
			p.errorf(m.node, codeMissing, "", "a cache needs a %s", key)
		}
	}
	if v := m.at("path"); v != nil {
		if s, ok := p.text(v, "path"); ok {
			msg := outside(s, true)
			if clean := path.Clean(s); msg == "" && (clean == "/" || clean == ".") {
				msg = "must be a folder of its own"
			}
			if msg != "" {
				p.errorf(v, codeValue, "an absolute path, or one below the workspace", "the path of a cache %s", msg)
			}
			c.Path = s
		}
	}
	if v := m.at("key"); v != nil {
		if s, ok := p.template(v, "key", u); ok {
			if strings.TrimSpace(s) == "" {
				p.errorf(v, codeValue, "", "the key of a cache is empty")
			}
			c.Key = s
		}
	}
	if v := m.at("restore"); v != nil {
		c.Restore = p.texts(v, "restore", func(n *yaml.Node, what string) (string, bool) { return p.template(n, what, u) })
	}
	if v := m.at("scope"); v != nil {
		if s, ok := p.oneOf(v, "scope", "tenant", "workflow", "step"); ok {
			c.Scope = s
		}
	}
	if v := m.at("mode"); v != nil {
		if s, ok := p.oneOf(v, "mode", "shared", "exclusive"); ok {
			c.Mode = s
		}
	}
	if v := m.at("max_size"); v != nil {
		c.MaxSize, _ = p.size(v, "max_size")
	}
	if v := m.at("ttl"); v != nil {
		c.TTL, _ = p.duration(v, "ttl")
	}
	return c
}
