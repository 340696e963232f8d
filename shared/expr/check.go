package expr

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/checker"
	"github.com/expr-lang/expr/compiler"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/vm"
)

// Check checks a condition, or every ${{ }} of a text, and returns what it
// names and everything that is wrong with it. It never panics.
func (e *Env) Check(kind Kind, src string) ([]Ref, []*Error) {
	if kind == Condition {
		return e.checkOne(kind, src)
	}
	parts, err := split(src)
	var refs []Ref
	var errs []*Error
	for _, p := range parts {
		if !p.expr {
			continue
		}
		r, es := e.checkOne(kind, p.text)
		for i := range r {
			r[i].Off += p.off
		}
		for i := range es {
			es[i].Off += p.off
		}
		refs, errs = append(refs, r...), append(errs, es...)
	}
	if err != nil {
		errs = append(errs, err)
	}
	return refs, errs
}

func (e *Env) checkOne(kind Kind, src string) (refs []Ref, errs []*Error) {
	defer func() {
		if r := recover(); r != nil {
			errs = append(errs, &Error{Msg: fmt.Sprintf("cannot be read: %v", r)})
		}
	}()
	a := e.analyze(kind, src)
	return a.refs, a.errs
}

// analysis is an expression that was read and checked.
type analysis struct {
	kind Kind
	env  *Env
	rw   rewritten
	tree *parser.Tree
	conf *conf.Config
	refs []Ref
	errs []*Error
}

// analyze parses src, walks it with our own rules (which report every problem)
// and, when those are content, has the library check the types (which reports
// the first).
func (e *Env) analyze(kind Kind, src string) *analysis {
	a := &analysis{kind: kind, env: e, conf: newConfig()}
	switch {
	case len(src) > MaxSource:
		a.errs = []*Error{{Msg: fmt.Sprintf("the expression is longer than %d KiB", MaxSource>>10)}}
		return a
	case strings.TrimSpace(src) == "":
		a.errs = []*Error{{Msg: "the expression is empty"}}
		return a
	case !utf8.ValidString(src):
		a.errs = []*Error{{Msg: "the expression is not valid UTF-8"}}
		return a
	}
	a.rw = e.rewrite(src)
	tree, err := parser.ParseWithConfig(a.rw.src, a.conf)
	if err != nil {
		a.library(err)
		return a
	}
	a.tree = tree
	a.walk(&tree.Node)
	if len(a.errs) > 0 {
		return a
	}
	a.conf.WithEnv(e.types(a.refs))
	a.conf.Strict = true
	if _, err := checker.Check(tree, a.conf); err != nil {
		a.library(err)
		return a
	}
	a.checkResult()
	return a
}

// checkResult checks that the expression results in what its place takes.
func (a *analysis) checkResult() {
	n := a.tree.Node.Nature()
	if n.IsUnknown(&a.conf.NtCache) || n.Nil {
		return // only the evaluation can tell
	}
	switch k := n.Kind; {
	case a.kind == Condition && k != reflect.Bool:
		a.errs = append(a.errs, &Error{
			Msg:  "the condition is " + typeName(n.Type) + ", not true or false",
			Hint: `compare it: == "..."`,
		})
	case a.kind != Condition && (k == reflect.Map || k == reflect.Slice || k == reflect.Array || k == reflect.Struct):
		a.errs = append(a.errs, &Error{Msg: typeName(n.Type) + " cannot stand in text"})
	}
}

// compiledExpr is a program with the values it needs.
type compiledExpr struct {
	program *vm.Program
	refs    []Ref
}

func (e *Env) compiled(kind Kind, src string) (*compiledExpr, error) {
	key := cacheKey{kind, src, e.digest}
	if c := programs.get(key); c != nil {
		return c, nil
	}
	a := e.analyze(kind, src)
	if len(a.errs) > 0 {
		return nil, a.errs[0]
	}
	program, err := compiler.Compile(a.tree, a.conf)
	if err != nil {
		return nil, err
	}
	c := &compiledExpr{program: program, refs: a.refs}
	programs.put(key, c)
	return c, nil
}

// library turns an error of the library into ours.
func (a *analysis) library(err error) {
	off := 0
	var fe *file.Error
	if errors.As(err, &fe) {
		off = a.byteOffset(fe.From)
	}
	msg := libraryMessage(err)
	e := &Error{Off: off, Msg: msg}
	switch {
	case strings.HasPrefix(msg, "unexpected token Operator(\"=\")"):
		e.Hint = "compare with =="
	case strings.Contains(msg, "exceeds maximum allowed nodes"):
		e.Msg = fmt.Sprintf("the expression has more than %d parts", MaxNodes)
	}
	a.errs = append(a.errs, e)
}

// libraryMessage is the library's message without its own excerpt.
func libraryMessage(err error) string {
	var fe *file.Error
	if errors.As(err, &fe) {
		return strings.ReplaceAll(fe.Message, "map[string]interface {}", "a group of values")
	}
	return err.Error()
}

func (a *analysis) fail(n ast.Node, hint, format string, args ...any) {
	a.errs = append(a.errs, &Error{Off: a.offset(n), Msg: fmt.Sprintf(format, args...), Hint: hint})
}

func (a *analysis) offset(n ast.Node) int { return a.byteOffset(n.Location().From) }

// byteOffset maps the library's rune offset to a byte of the source given.
func (a *analysis) byteOffset(runes int) int {
	for i := range a.rw.src {
		if runes == 0 {
			return a.rw.original(i)
		}
		runes--
	}
	return a.rw.original(len(a.rw.src))
}
