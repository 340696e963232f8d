package expr

import "strings"

// rewritten is a source in which step ids that are no identifiers, such as
// steps.plan-services.outputs.x, are spelled steps["plan-services"].outputs.x.
type rewritten struct {
	src   string
	spans []span
}

// span says that the rewritten source from new on stands for the original from
// old on; within a replacement every position stands for old.
type span struct {
	new, old int
	replaced bool
}

// original maps an offset of the rewritten source back.
func (r *rewritten) original(off int) int {
	old := off
	for _, s := range r.spans {
		if s.new > off {
			break
		}
		old = s.old
		if !s.replaced {
			old += off - s.new
		}
	}
	return old
}

// rewrite spells out the step references of src. It leaves string literals alone.
func (e *Env) rewrite(src string) rewritten {
	r := rewritten{spans: []span{{}}}
	var b strings.Builder
	last := 0
	for i := 0; i < len(src); {
		switch c := src[i]; {
		case c == '\'' || c == '"' || c == '`':
			n := literalEnd(src[i:])
			if n < 0 {
				n = len(src) - i // the parser will complain
			}
			i += n
		case identByte(c):
			j := i
			for j < len(src) && identByte(src[j]) {
				j++
			}
			isRoot := src[i:j] == "steps" && (i == 0 || src[i-1] != '.') && j+1 < len(src) && src[j] == '.' && idByte(src[j+1])
			if !isRoot {
				i = j
				continue
			}
			text, n := e.stepRef(src[j+1:])
			b.WriteString(src[last:i])
			r.spans = append(r.spans, span{new: b.Len(), old: i, replaced: true})
			b.WriteString("steps" + text)
			i = j + 1 + n
			last = i
			r.spans = append(r.spans, span{new: b.Len(), old: i})
		default:
			i++
		}
	}
	b.WriteString(src[last:])
	r.src = b.String()
	return r
}

// stepRef reads the id, and the output if its name is no identifier, from what
// follows "steps."; n is how much of s it used.
func (e *Env) stepRef(s string) (text string, n int) {
	run := 0
	for run < len(s) && idByte(s[run]) {
		run++
	}
	id := longest(s[:run], func(id string) bool { _, ok := e.steps[id]; return ok })
	if id == "" {
		id = unknownID(s[:run])
	}
	text, n = `["`+id+`"]`, len(id)
	const outputs = ".outputs."
	if !strings.HasPrefix(s[n:], outputs) {
		return text, n
	}
	m := n + len(outputs)
	run = m
	for run < len(s) && (idByte(s[run]) || identByte(s[run])) {
		run++
	}
	if name := longest(s[m:run], func(name string) bool { _, ok := e.steps[id][name]; return ok }); name != "" {
		return text + `.outputs["` + name + `"]`, m + len(name)
	}
	return text, n
}

// longest returns the longest known name that s starts with and that ends at a
// boundary, or "".
func longest(s string, known func(string) bool) string {
	for n := len(s); n > 0; n-- {
		if (n == len(s) || s[n] == '.' || s[n] == '-') && known(s[:n]) {
			return s[:n]
		}
	}
	return ""
}

// unknownID guesses where an id that no step has ends, so that the complaint
// names it whole.
func unknownID(s string) string {
	for _, end := range []string{".outputs", ".state"} {
		if i := strings.Index(s, end); i > 0 {
			return s[:i]
		}
	}
	if i := strings.IndexByte(s, '.'); i > 0 {
		return s[:i]
	}
	return s
}

func identByte(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c >= 0x80
}

func idByte(c byte) bool {
	return c == '_' || c == '-' || c == '.' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
}
