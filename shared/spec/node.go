package spec

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// mapping is a mapping node, its keys checked.
type mapping struct {
	node *yaml.Node
	keys map[string]*yaml.Node
	vals map[string]*yaml.Node
	list []string // keys in the order of the file
}

// at returns the value of a key, or nil.
func (m *mapping) at(key string) *yaml.Node {
	if m == nil {
		return nil
	}
	return m.vals[key]
}

// has reports whether the key is there.
func (m *mapping) has(key string) bool { return m.at(key) != nil }

// mapping reads a mapping whose keys must be those of set; nil when n is none.
func (p *parser) mapping(n *yaml.Node, set keySet) *mapping {
	m := p.pairs(n, set.what)
	if m == nil {
		return nil
	}
	m.list = slices.DeleteFunc(m.list, func(k string) bool {
		if slices.Contains(set.known, k) {
			if isNull(m.vals[k]) && k != "dispatch" {
				p.errorf(m.keys[k], codeType, "write a value or remove the key", "%s has no value", k)
				delete(m.vals, k)
				return true
			}
			return false
		}
		p.unknownKey(m.keys[k], k, set)
		delete(m.vals, k)
		return true
	})
	return m
}

func (p *parser) unknownKey(n *yaml.Node, key string, set keySet) {
	switch {
	case slices.Contains(set.later, key):
		p.errorf(n, codeLater, "", "%s is not available yet", key)
	case slices.Contains(set.known, foreign[key]):
		p.errorf(n, codeUnknownKey, "did you mean "+foreign[key]+"?", "unknown key %s in %s", key, set.what)
	case set.what == defaultsKeys.what && slices.Contains(stepKeys.known, key):
		p.errorf(n, codeUnknownKey, "say it in each step, or at the top of the file", "%s has no default", key)
	case set.what == stepKeys.what && slices.Contains(workflowKeys.known, key):
		p.errorf(n, codeUnknownKey, "it belongs at the top of the file", "unknown key %s in %s", key, set.what)
	case set.what == workflowKeys.what && slices.Contains(stepKeys.known, key):
		p.errorf(n, codeUnknownKey, "it belongs in a step, or in defaults", "unknown key %s in %s", key, set.what)
	default:
		known := slices.Concat(set.known, set.later)
		p.errorf(n, codeUnknownKey, p.suggestion(key, known), "unknown key %s in %s", short(key), set.what)
	}
}

// pairs reads a mapping with any keys, with merge keys resolved; nil when n is
// none. what is for messages.
func (p *parser) pairs(n *yaml.Node, what string) *mapping {
	n = deref(n)
	if n.Kind != yaml.MappingNode {
		p.errorf(n, codeType, "", "%s must be a mapping, not %s", what, kindName(n))
		return nil
	}
	m := &mapping{node: n, keys: map[string]*yaml.Node{}, vals: map[string]*yaml.Node{}}
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := deref(n.Content[i]), deref(n.Content[i+1])
		if k.Kind == yaml.ScalarNode && k.Value == "<<" && k.Style == 0 {
			merged = append(merged, v)
			continue
		}
		if k.Kind != yaml.ScalarNode || isNull(k) {
			p.errorf(n.Content[i], codeType, "", "a key must be a word, not %s", kindName(k))
			continue
		}
		if first, ok := m.keys[k.Value]; ok {
			p.errorf(n.Content[i], codeDuplicate, "", "the key %s is already there in line %d", short(k.Value), first.Line)
			continue
		}
		m.put(n.Content[i], k.Value, v)
	}
	for _, v := range merged {
		p.merge(m, v, MaxDepth)
	}
	return m
}

func (m *mapping) put(at *yaml.Node, key string, v *yaml.Node) {
	m.keys[key], m.vals[key] = at, v
	m.list = append(m.list, key)
}

// merge adds the pairs of a merge key that are not there yet.
func (p *parser) merge(m *mapping, v *yaml.Node, depth int) {
	if depth == 0 {
		p.errorf(v, codeLimit, "", "merge keys nested deeper than %d levels", MaxDepth)
		return
	}
	v = deref(v)
	switch v.Kind {
	case yaml.SequenceNode:
		for _, c := range v.Content {
			p.merge(m, c, depth-1)
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(v.Content); i += 2 {
			k := deref(v.Content[i])
			if k.Kind != yaml.ScalarNode {
				p.errorf(k, codeType, "", "a key must be a word, not %s", kindName(k))
				continue
			}
			if k.Value == "<<" && k.Style == 0 {
				p.merge(m, v.Content[i+1], depth-1)
			} else if _, ok := m.keys[k.Value]; !ok {
				m.put(v.Content[i], k.Value, deref(v.Content[i+1]))
			}
		}
	default:
		p.errorf(v, codeType, "as in <<: *name", "<< takes a mapping or a list of mappings, not %s", kindName(v))
	}
}

// items returns the elements of a list; what is for messages.
func (p *parser) items(n *yaml.Node, what string) ([]*yaml.Node, bool) {
	n = deref(n)
	if n.Kind != yaml.SequenceNode {
		p.errorf(n, codeType, "", "%s must be a list, not %s", what, kindName(n))
		return nil, false
	}
	out := make([]*yaml.Node, len(n.Content))
	for i, c := range n.Content {
		out[i] = deref(c)
	}
	return out, true
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// kindName says what a node is, for messages.
func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		switch n.ShortTag() {
		case "!!null":
			return "nothing"
		case "!!bool", "!!int", "!!float":
			return short(n.Value)
		}
		return `"` + short(n.Value) + `"`
	default:
		return "this"
	}
}

// short is a value for a message: one line, not too long.
func short(s string) string {
	if i := strings.IndexAny(s, "\r\n"); i >= 0 {
		s = s[:i] + "..."
	}
	if r := []rune(s); len(r) > 60 {
		s = string(r[:57]) + "..."
	}
	return s
}
