package spec

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/expr"
)

var stepID = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// step reads one step; number is its place in its list, from 1.
func (p *parser) step(n *yaml.Node, number int, finally bool) {
	m := p.mapping(n, stepKeys)
	if m == nil {
		return
	}
	s := p.defaults // its maps and lists are replaced, never written to
	s.Line, s.Finally = n.Line, finally
	if v := m.at("name"); v != nil {
		s.Name, _ = p.text(v, "name")
	}
	p.stepID(m, &s, number)
	if s.Name == "" {
		s.Name = s.ID
	}
	sn := &stepNode{node: n, m: m}
	if v := m.at("needs"); v != nil {
		p.needs(v, &s, sn)
	}
	index := len(p.steps)
	if v := m.at("if"); v != nil {
		p.condition(v, &s, index)
	}
	if v := m.at("skip"); v != nil {
		p.skip(v, &s)
	}
	p.common(m, &s, index)
	p.payload(m, &s)
	if v := m.at("env"); v != nil {
		s.Env = p.env(v, use{step: index})
	}
	if v := m.at("soft_fail"); v != nil {
		s.SoftFail = p.softFail(v)
	}
	if v := m.at("outputs"); v != nil {
		s.Outputs = p.outputs(v)
	}
	if v := m.at("artifacts"); v != nil {
		s.Artifacts = p.artifacts(v, index)
	}
	if v := m.at("cache"); v != nil {
		s.Caches = p.caches(v, index)
	}
	if v := m.at("checkout"); v != nil {
		p.checkout(v, &s.Checkout)
	}
	p.settle(m, &s)
	p.w.Steps = append(p.w.Steps, s)
	p.steps = append(p.steps, sn)
}

func (p *parser) stepID(m *mapping, s *ci.Step, number int) {
	if v := m.at("id"); v != nil {
		id, ok := p.text(v, "id")
		if ok && !stepID.MatchString(id) {
			hint := "a-z, 0-9, . _ and -, starting with a letter or digit, at most 64"
			if fixed := slug(id); fixed != "" {
				hint = "did you mean " + fixed + "?"
			}
			p.errorf(v, codeValue, hint, "a step cannot have the id %s", short(id))
		}
		s.ID = id
	} else {
		s.ID = slug(s.Name)
	}
	if s.ID == "" {
		s.ID = fmt.Sprintf("step-%d", number)
		if s.Finally {
			s.ID = fmt.Sprintf("finally-%d", number)
		}
	}
}

// slug turns a name into an id, or "" when nothing is left.
func slug(name string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.', r == '_':
			b.WriteRune(r)
		default:
			if s := b.String(); s != "" && !strings.HasSuffix(s, "-") {
				b.WriteByte('-')
			}
		}
		if b.Len() == 64 {
			break
		}
	}
	return strings.Trim(b.String(), "-._")
}

func (p *parser) needs(n *yaml.Node, s *ci.Step, sn *stepNode) {
	sn.has, sn.needs = true, map[string]*yaml.Node{}
	items := []*yaml.Node{n}
	if n.Kind != yaml.ScalarNode {
		var ok bool
		if items, ok = p.items(n, "needs"); !ok {
			return
		}
	}
	for _, item := range items {
		if item.Kind == yaml.MappingNode {
			p.errorf(item, codeLater, "", "needs on other outcomes than success is not available yet")
			continue
		}
		id, ok := p.text(item, "needs")
		switch {
		case !ok:
		case sn.needs[id] != nil:
			p.errorf(item, codeDuplicate, "", "needs names %s twice", short(id))
		default:
			sn.needs[id] = item
			s.Needs = append(s.Needs, id)
		}
	}
}

func (p *parser) condition(n *yaml.Node, s *ci.Step, index int) {
	if n.Kind != yaml.ScalarNode {
		p.errorf(n, codeType, "", "if must be an expression, not %s", kindName(n))
		return
	}
	src, off := expr.Unwrap(n.Value)
	s.If = strings.TrimSpace(src)
	if s.If == "" {
		p.errorf(n, codeValue, "", "if is empty")
		return
	}
	off += strings.Index(src, s.If)
	p.uses = append(p.uses, use{kind: expr.Condition, src: s.If, off: off, node: n, what: "if", step: index})
}

func (p *parser) skip(n *yaml.Node, s *ci.Step) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!bool" {
		if b, _ := p.boolean(n, "skip"); b {
			s.Skip = "skipped in the workflow file"
		}
		return
	}
	s.Skip, _ = p.text(n, "skip")
}

// payload reads what the step runs.
func (p *parser) payload(m *mapping, s *ci.Step) {
	run, command := m.at("run"), m.at("command")
	if run != nil && command != nil {
		p.errorf(m.keys["command"], codeValue, "keep one of them", "a step has run or command, not both")
	}
	if run != nil {
		switch {
		case run.Kind != yaml.ScalarNode:
			p.errorf(run, codeType, "write run: | and one command a line", "run must be one script, not %s", kindName(run))
		case strings.TrimSpace(run.Value) == "":
			p.errorf(run, codeValue, "", "run is empty")
		default:
			s.Run = run.Value
			p.script(run, "run")
		}
	}
	if command == nil {
		return
	}
	if command.Kind != yaml.SequenceNode {
		p.errorf(command, codeType, `as in ["make", "test"]; for a shell use run`, "command must be a list, not %s", kindName(command))
		return
	}
	if len(command.Content) == 0 {
		p.errorf(command, codeValue, "", "command is empty")
	}
	for _, n := range command.Content {
		n = deref(n)
		if arg, ok := p.scalar(n, "command"); ok {
			s.Command = append(s.Command, arg)
			p.script(n, "command")
		}
	}
}

// script registers every ${{ of a text that is never templated, to be refused
// with the variable to use once all names are known.
func (p *parser) script(n *yaml.Node, what string) {
	if expr.HasTemplate(n.Value) {
		p.uses = append(p.uses, use{kind: expr.Text, src: n.Value, node: n, what: what, script: true})
	}
}

// settle decides what executes the step. An image says docker; one that only
// the defaults give does not count for a step that says process itself.
func (p *parser) settle(m *mapping, s *ci.Step) {
	own, image := m.has("executor"), m.has("image")
	literal := !expr.HasTemplate(s.Executor)
	switch {
	case own && image && s.Executor == ci.ExecutorProcess:
		p.errorf(m.keys["image"], codeValue, "remove the image or the executor", "a step with an image never runs as a process")
	case own && s.Executor == ci.ExecutorProcess:
		s.Image = ""
	case image && !own && literal:
		s.Executor = ci.ExecutorDocker
	case s.Executor == "" && s.Image != "":
		s.Executor = ci.ExecutorDocker
	}
	if m.keys["image"] != nil && s.Image == "" && s.Executor != ci.ExecutorProcess || m.keys["executor"] != nil && s.Executor == "" {
		return // reported where it was read
	}
	switch {
	case s.Executor == "" && s.Image == "":
		p.errorf(m.node, codeMissing, "give it an image, or executor: process", "step %s has neither image nor executor", s.ID)
	case s.Executor == ci.ExecutorDocker && s.Image == "":
		p.errorf(m.node, codeMissing, "", "step %s has no image: the docker executor needs one", s.ID)
	case s.Executor != ci.ExecutorDocker && !m.has("run") && !m.has("command"):
		p.errorf(m.node, codeMissing, "only an image can run without", "step %s has neither run nor command", s.ID)
	}
	if s.Executor == ci.ExecutorProcess {
		p.processCaches(m.at("cache"), s)
	}
	if s.Run == "" {
		s.Shell = nil
		if m.has("shell") {
			p.errorf(m.keys["shell"], codeValue, "", "shell without run has nothing to do")
		}
	}
}

// processCaches refuses what a process step cannot have: it shares the files of
// its host, where a folder of the fleet's must not appear.
func (p *parser) processCaches(n *yaml.Node, s *ci.Step) {
	for _, c := range s.Caches {
		if path.IsAbs(c.Path) {
			p.errorf(n, codeValue, "give a path below the workspace, or run the step in an image",
				"the cache at %s cannot be mounted: step %s runs as a process, among the files of its host", short(c.Path), s.ID)
		}
	}
}
