package spec

import (
	"strings"

	"go.yaml.in/yaml/v4"
)

// weight is what a node amounts to with its aliases written out.
type weight struct{ nodes, depth int }

// weigher measures a tree. An anchored node is measured once, so that a bomb
// costs as little as its text.
type weigher struct {
	p     *parser
	known map[*yaml.Node]weight
	open  map[*yaml.Node]bool // being measured: an alias to one of these is a loop
	loop  bool
}

// checkTree checks the limits of the tree, its tags and its aliases.
func (p *parser) checkTree(root *yaml.Node) bool {
	before := len(p.found)
	w := weigher{p: p, known: map[*yaml.Node]weight{}, open: map[*yaml.Node]bool{}}
	total := w.measure(root)
	switch {
	case w.loop: // reported
	case total.nodes > MaxNodes:
		code, what := codeLimit, "the file has"
		if len(w.known) > 0 {
			code, what = codeAlias, "with its aliases the file has"
		}
		p.errorAt(1, 1, code, "split the workflow", "%s more than %d values", what, MaxNodes)
	case total.depth > MaxDepth:
		n := w.deepest(root, MaxDepth)
		p.tooDeep(n.Line, n.Column)
	}
	return len(p.found) == before
}

func (w *weigher) measure(n *yaml.Node) weight {
	if n.Kind == yaml.AliasNode {
		if w.open[n.Alias] {
			if !w.loop {
				w.p.errorf(n, codeAlias, "", "the alias *%s is part of what it stands for", n.Value)
			}
			w.loop = true
			return weight{nodes: 1}
		}
		return w.measure(n.Alias)
	}
	if got, ok := w.known[n]; ok {
		return got
	}
	w.checkTag(n)
	if n.Anchor != "" {
		w.open[n] = true
	}
	total := weight{nodes: 1}
	for _, c := range n.Content {
		sub := w.measure(c)
		total.nodes = min(total.nodes+sub.nodes, 10*MaxNodes) // no overflow
		total.depth = max(total.depth, sub.depth)
	}
	if n.Kind != yaml.ScalarNode {
		total.depth++
	}
	if n.Anchor != "" {
		delete(w.open, n)
		w.known[n] = total
	}
	return total
}

// deepest returns the node that stands below more than levels others.
func (w *weigher) deepest(n *yaml.Node, levels int) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	for _, c := range n.Content {
		if levels > 0 && w.measure(c).depth >= levels {
			return w.deepest(c, levels-1)
		}
	}
	return n
}

// checkTag refuses the tags that we give no meaning: most often a condition
// that starts with an exclamation mark.
func (w *weigher) checkTag(n *yaml.Node) {
	if n.Style&yaml.TaggedStyle == 0 {
		return
	}
	switch n.Tag {
	case "!!str", "!!int", "!!float", "!!bool", "!!null", "!!map", "!!seq":
		return
	}
	hint := ""
	if !strings.HasPrefix(n.Tag, "!!") {
		hint = "quote a value that starts with !"
	}
	w.p.errorf(n, codeSyntax, hint, "the YAML tag %.40q has no meaning here", n.Tag)
}

// deref follows aliases to what they stand for.
func deref(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}
