package expr

import (
	"slices"
	"sort"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/expr-lang/expr/ast"

	"github.com/slipway-ci/slipway/shared/expr/suggest"
)

// operators that may stand between two values. The range operator is not
// among them: it makes long lists of short sources.
var operators = map[string]bool{
	"==": true, "!=": true, "<": true, "<=": true, ">": true, ">=": true,
	"and": true, "&&": true, "or": true, "||": true, "??": true, "in": true,
	"+": true, "-": true, "*": true, "/": true, "%": true, "**": true, "^": true,
	"contains": true, "startsWith": true, "endsWith": true, "matches": true,
}

// walk checks the tree below n against our rules, collects what it names, and
// puts our own function in the place of `matches`.
func (a *analysis) walk(n *ast.Node) {
	switch x := (*n).(type) {
	case *ast.NilNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.StringNode:
	case *ast.IdentifierNode:
		a.bareRoot(x)
	case *ast.UnaryNode:
		a.walk(&x.Node)
	case *ast.BinaryNode:
		a.binary(n, x)
	case *ast.ChainNode:
		a.walk(&x.Node)
	case *ast.MemberNode:
		a.member(x)
	case *ast.SliceNode:
		a.walk(&x.Node)
		for _, part := range []*ast.Node{&x.From, &x.To} {
			if *part != nil {
				a.walk(part)
			}
		}
	case *ast.CallNode:
		a.call(x)
	case *ast.BuiltinNode:
		if !allowed[x.Name] {
			a.unknownFunction(x, x.Name)
			return
		}
		a.walkAll(x.Arguments)
	case *ast.ConditionalNode:
		a.walk(&x.Cond)
		a.walk(&x.Exp1)
		a.walk(&x.Exp2)
	case *ast.ArrayNode:
		a.walkAll(x.Nodes)
	case *ast.MapNode:
		a.walkAll(x.Pairs)
	case *ast.PairNode:
		a.walk(&x.Key)
		a.walk(&x.Value)
	case *ast.VariableDeclaratorNode:
		a.fail(x, "", "let is not part of the expression language")
	case *ast.SequenceNode:
		a.fail(x, "", "an expression is one value: no ;")
	default:
		a.fail(*n, "", "loops and predicates are not part of the expression language")
	}
}

func (a *analysis) walkAll(nodes []ast.Node) {
	for i := range nodes {
		a.walk(&nodes[i])
	}
}

func (a *analysis) binary(n *ast.Node, x *ast.BinaryNode) {
	if !operators[x.Operator] {
		a.fail(x, "", "the operator %s is not part of the expression language", x.Operator)
		return
	}
	a.walk(&x.Left)
	if x.Operator != "matches" {
		a.walk(&x.Right)
		return
	}
	pattern, ok := x.Right.(*ast.StringNode)
	if !ok {
		a.fail(x.Right, "", "matches takes a literal pattern")
		return
	}
	if err := CheckPattern(pattern.Value); err != nil {
		a.fail(x.Right, "", "%s", err)
		return
	}
	callee := &ast.IdentifierNode{Value: matchFunc}
	callee.SetLocation(x.Location())
	ast.Patch(n, &ast.CallNode{Callee: callee, Arguments: []ast.Node{x.Left, x.Right}})
}

func (a *analysis) call(x *ast.CallNode) {
	callee, ok := x.Callee.(*ast.IdentifierNode)
	if !ok {
		a.fail(x, "", "values have no functions of their own")
		return
	}
	switch {
	case callee.Value == "hash" && a.kind != CacheKey:
		a.fail(callee, "only the agent has the files", "hash() can only stand in the key of a cache")
	case callee.Value == "hash":
		for _, arg := range x.Arguments {
			glob, ok := arg.(*ast.StringNode)
			switch {
			case !ok:
				a.fail(arg, "", "hash takes literal file patterns")
			case strings.HasPrefix(glob.Value, "/") || slices.Contains(strings.Split(glob.Value, "/"), ".."):
				a.fail(arg, "", "hash takes file patterns below the workspace")
			case glob.Value == "" || !doublestar.ValidatePattern(glob.Value):
				a.fail(arg, "", "%q is no file pattern", glob.Value)
			}
		}
	case callee.Value != "replace":
		a.unknownFunction(callee, callee.Value)
	default:
		a.walkAll(x.Arguments)
	}
}

func (a *analysis) unknownFunction(n ast.Node, name string) {
	known := functionNames()
	a.fail(n, suggest.Hint(name, known), "no function %s", name)
}

func (a *analysis) bareRoot(x *ast.IdentifierNode) {
	if a.checkRoot(x) {
		a.fail(x, "name one, as in "+x.Value+"."+a.example(x.Value), "%s is a group of values", x.Value)
	}
}

// checkRoot reports whether x is a root that exists, and complains if not.
func (a *analysis) checkRoot(x *ast.IdentifierNode) bool {
	switch {
	case x.Value == "params" || x.Value == "steps" || fixed[x.Value] != nil:
		return true
	case later[x.Value]:
		a.fail(x, "", "%s is not available yet", x.Value)
	default:
		hint := suggest.Hint(x.Value, rootNames())
		if _, ok := a.env.params[x.Value]; ok {
			hint = "did you mean params." + x.Value + "?"
		}
		a.fail(x, hint, "nothing is called %s", x.Value)
	}
	return false
}

// example is a field to show of a root, "..." when it has none.
func (a *analysis) example(root string) string {
	names := a.fieldNames(root)
	if len(names) == 0 {
		return "..."
	}
	return names[0]
}

func (a *analysis) fieldNames(root string) []string {
	var names []string
	switch root {
	case "params":
		for n := range a.env.params {
			names = append(names, n)
		}
	case "steps":
		for n := range a.env.steps {
			names = append(names, n)
		}
	default:
		for n := range fixed[root] {
			names = append(names, n)
		}
	}
	sort.Strings(names)
	return names
}

// member checks a chain such as steps["a"].outputs.b against the environment.
func (a *analysis) member(x *ast.MemberNode) {
	root, chain := flatten(x)
	if root == nil {
		a.walk(&x.Node)
		a.walk(&x.Property)
		return
	}
	if !a.checkRoot(root) {
		return
	}
	keys := make([]string, len(chain))
	for i, m := range chain {
		s, ok := m.Property.(*ast.StringNode)
		if !ok {
			if i < leafDepth(root.Value, keys) {
				a.fail(m.Property, `as in `+root.Value+`["name"]`, "what to take from %s must be written out", root.Value)
				return
			}
			a.walk(&chain[i].Property)
			keys = keys[:i]
			break
		}
		keys[i] = s.Value
	}
	a.resolve(root, chain, keys)
}

// flatten returns the root and the member accesses of a chain, outermost last;
// root is nil when the chain starts from something else than a name.
func flatten(x *ast.MemberNode) (*ast.IdentifierNode, []*ast.MemberNode) {
	var chain []*ast.MemberNode
	var n ast.Node = x
	for {
		switch y := n.(type) {
		case *ast.MemberNode:
			chain = append([]*ast.MemberNode{y}, chain...)
			n = y.Node
		case *ast.ChainNode:
			n = y.Node
		case *ast.IdentifierNode:
			return y, chain
		default:
			return nil, nil
		}
	}
}

// leafDepth is how many names lead from a root to a value.
func leafDepth(root string, keys []string) int {
	switch {
	case root != "steps":
		return 1
	case len(keys) > 1 && keys[1] == "state":
		return 2
	default:
		return 3
	}
}

func (a *analysis) resolve(root *ast.IdentifierNode, chain []*ast.MemberNode, keys []string) {
	at := func(i int) ast.Node { return chain[i].Property }
	r := Ref{Root: root.Value, Off: a.offset(root)}
	if root.Value != "steps" {
		r.Name = keys[0]
		known := fixed[r.Root][r.Name] != nil
		if r.Root == "params" {
			_, known = a.env.params[r.Name]
		}
		if !known {
			a.unknownField(at(0), r.Root, r.Name)
			return
		}
		a.refs = append(a.refs, r)
		return
	}
	r.Step = keys[0]
	outputs, ok := a.env.steps[r.Step]
	if !ok {
		a.fail(root, suggest.Hint(r.Step, a.fieldNames("steps")), "no step has the id %s", r.Step)
		return
	}
	switch {
	case len(keys) >= 2 && keys[1] == "state":
		r.Name = "state"
	case len(keys) >= 3 && keys[1] == "outputs":
		r.Name, r.Out = keys[2], true
		if _, ok := outputs[r.Name]; !ok {
			var names []string
			for n := range outputs {
				names = append(names, n)
			}
			hint := suggest.Hint(r.Name, names)
			if len(names) == 0 {
				hint = "name it in its outputs:"
			}
			a.fail(at(2), hint, "step %s has no output %s", r.Step, r.Name)
			return
		}
	case len(keys) == 2 && keys[1] == "outputs":
		a.fail(root, "name one", "steps.%s.outputs is a group of values", r.Step)
		return
	case len(keys) == 1:
		a.fail(root, "name its state or one of its outputs", "steps.%s is a group of values", r.Step)
		return
	default:
		a.fail(at(1), "it has state and outputs", "a step has no %s", keys[1])
		return
	}
	a.refs = append(a.refs, r)
}

func (a *analysis) unknownField(n ast.Node, root, name string) {
	names := a.fieldNames(root)
	hint := suggest.Hint(name, names)
	switch {
	case root == "params" && len(names) == 0:
		a.fail(n, "declare it in params:", "the workflow has no parameters")
	case root == "params":
		a.fail(n, hint, "no parameter is called %s", name)
	default:
		if hint == "" {
			hint = "it has " + strings.Join(names, ", ")
		}
		a.fail(n, hint, "%s has no %s", root, name)
	}
}
