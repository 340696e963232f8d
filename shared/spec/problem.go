package spec

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/expr/suggest"
)

// Severity says whether a problem keeps the workflow from running.
type Severity string

// The severities.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// The codes of problems; they are part of the interface and never change.
const (
	codeInternal   = "internal"
	codeLimit      = "limit"
	codeEncoding   = "encoding"
	codeSyntax     = "syntax"
	codeAlias      = "alias"
	codeDuplicate  = "duplicate"
	codeUnknownKey = "unknown_key"
	codeLater      = "not_available"
	codeMissing    = "missing"
	codeType       = "type"
	codeValue      = "value"
	codeFloat      = "unquoted_float"
	codeTemplate   = "template"
	codeExpr       = "expression"
	codeUntrusted  = "untrusted"
	codeUnknownID  = "unknown_step"
	codeCycle      = "cycle"
	codeCollision  = "collision"
	codeLatest     = "latest_tag"
	codeNoTimeout  = "no_timeout"
	codeConstantIf = "constant_if"
	codeMore       = "more"
)

// Problem is one thing that is wrong, or unwise, in a file. Line and Col are
// 1-based (Col in characters); both are 0 for what concerns the whole file.
type Problem struct {
	File     string   `json:"file"`
	Line     int      `json:"line"`
	Col      int      `json:"col"`
	Severity Severity `json:"severity"`
	Code     string   `json:"code"`
	Msg      string   `json:"msg"`
	Hint     string   `json:"hint,omitempty"`
	Excerpt  string   `json:"excerpt,omitempty"` // the line, and a caret below it
}

// String renders the problem as file:line:col: severity: message (hint), with
// its excerpt below.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Col)
	}
	fmt.Fprintf(&b, ": %s: %s", p.Severity, p.Msg)
	if p.Hint != "" {
		fmt.Fprintf(&b, " (%s)", p.Hint)
	}
	if p.Excerpt != "" {
		b.WriteString("\n" + p.Excerpt)
	}
	return b.String()
}

// Problems are the problems of one file by position. At most MaxProblems are
// listed; a last one then says how many more there are.
type Problems []Problem

// Error renders every problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Errors returns the problems that keep the workflow from running.
func (ps Problems) Errors() Problems { return ps.of(Error) }

// Warnings returns the other problems.
func (ps Problems) Warnings() Problems { return ps.of(Warning) }

func (ps Problems) of(s Severity) Problems {
	var out Problems
	for _, p := range ps {
		if p.Severity == s {
			out = append(out, p)
		}
	}
	return out
}

func (ps Problems) failed() bool {
	return slices.ContainsFunc(ps, func(p Problem) bool { return p.Severity == Error })
}

// Err returns nil without errors, else an error for people: of kind Unsupported
// when the file only asks for what this version lacks, else of kind Invalid.
// errors.As finds the Problems in it.
func (ps Problems) Err() error {
	errs := ps.Errors()
	if len(errs) == 0 {
		return nil
	}
	kind := ci.Unsupported
	for _, p := range errs {
		if p.Code != codeLater {
			kind = ci.Invalid
		}
	}
	return ci.Errorf(kind, "cannot use this workflow:\n%w", errs)
}

func (p *parser) add(sev Severity, line, col int, code, hint, msg string) {
	p.found = append(p.found, Problem{
		File: p.source.file, Line: line, Col: col, Severity: sev, Code: code, Hint: hint, Msg: msg,
	})
}

func (p *parser) errorAt(line, col int, code, hint, format string, args ...any) {
	p.add(Error, line, col, code, hint, fmt.Sprintf(format, args...))
}

func (p *parser) errorf(n *yaml.Node, code, hint, format string, args ...any) {
	p.errorAt(n.Line, n.Column, code, hint, format, args...)
}

func (p *parser) warnf(n *yaml.Node, code, hint, format string, args ...any) {
	p.add(Warning, n.Line, n.Column, code, hint, fmt.Sprintf(format, args...))
}

// finish sorts what was found, drops repetitions (an alias is read once for
// each use), and adds excerpts.
func (p *parser) finish() Problems {
	slices.SortStableFunc(p.found, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col),
			cmp.Compare(a.Severity, b.Severity), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Msg, b.Msg),
		)
	})
	all := slices.CompactFunc(p.found, func(a, b Problem) bool { return a == b })
	listed := all[:min(len(all), MaxProblems)]
	for i := range listed {
		listed[i].Excerpt = p.source.excerpt(listed[i].Line, listed[i].Col)
	}
	more := len(all) - len(listed)
	if more == 0 {
		return slices.Clip(listed)
	}
	sev := Warning
	if Problems(all[len(listed):]).failed() {
		sev = Error // the rest alone keeps the workflow from running
	}
	return append(slices.Clip(listed), Problem{
		File: p.source.file, Severity: sev, Code: codeMore, Msg: fmt.Sprintf("and %d more problems", more),
		Hint: "mend the first ones and look again",
	})
}

// suggestion is suggest.Hint within a budget: a file of nothing but wrong names
// must not cost more than a good one.
func (p *parser) suggestion(name string, known []string) string {
	if p.budget < len(known) {
		return ""
	}
	p.budget -= len(known)
	return suggest.Hint(name, known)
}
