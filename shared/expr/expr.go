// Package expr evaluates the expressions of workflow files: the conditions of
// `if` and the ${{ }} templates of everything but scripts.
//
// It is pure and bounded. An expression is short, cannot loop, cannot bind
// variables and cannot call anything but the functions listed in funcs.go, so
// its cost is bounded by its own length and that of the values it names. It is
// checked against a typed environment: a name that does not exist, at any
// depth, is an error when the file is read, not an empty string when a deploy
// runs.
package expr

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/expr-lang/expr/vm"

	"github.com/slipway-ci/slipway/shared/ci"
)

// Limits of one expression and of one rendered value, in bytes.
const (
	MaxSource = 4096
	MaxNodes  = 500
	MaxResult = 128 << 10 // what Linux lets one environment variable hold
)

// Kind says where an expression stands; it decides what it may name and what
// it must result in.
type Kind int

// The kinds: the condition of a step, a ${{ }} in text, and a ${{ }} in a cache
// key, where hash() may be called.
const (
	Condition Kind = iota
	Text
	CacheKey
)

// Error is a problem in an expression. Off is the byte offset within the
// source given to Check.
type Error struct {
	Off       int
	Msg, Hint string
}

// Error returns the message and the hint.
func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Msg
	}
	return e.Msg + " (" + e.Hint + ")"
}

// Eval evaluates the condition src. An empty condition is true. Errors are of
// kind ci.Invalid.
func Eval(src string, s Scope) (bool, error) {
	if strings.TrimSpace(src) == "" {
		return true, nil
	}
	v, err := s.eval(Condition, src)
	if err != nil {
		return false, ci.Errorf(ci.Invalid, "cannot evaluate if: %s: %w", src, err)
	}
	b, ok := v.(bool)
	if !ok {
		return false, ci.Errorf(ci.Invalid, "cannot evaluate if: %s: it is %s, not true or false", src, typeName(reflect.TypeOf(v)))
	}
	return b, nil
}

// Interpolate replaces every ${{ }} of src. Errors are of kind ci.Invalid.
func Interpolate(src string, s Scope) (string, error) { return s.interpolate(Text, src) }

func (s Scope) interpolate(kind Kind, src string) (string, error) {
	if !HasTemplate(src) {
		return src, nil
	}
	parts, terr := split(src)
	if terr != nil {
		return "", ci.Errorf(ci.Invalid, "cannot render %q: %w", src, terr)
	}
	var b strings.Builder
	for _, p := range parts {
		if !p.expr {
			b.WriteString(p.text)
			continue
		}
		v, err := s.eval(kind, p.text)
		if err != nil {
			return "", ci.Errorf(ci.Invalid, "cannot render ${{%s}}: %w", p.text, err)
		}
		text, err := toText(v)
		if err != nil {
			return "", ci.Errorf(ci.Invalid, "cannot render ${{%s}}: %w", p.text, err)
		}
		b.WriteString(text)
		if b.Len() > MaxResult {
			return "", ci.Errorf(ci.Invalid, "cannot render ${{%s}}: the text grows beyond %d KiB", p.text, MaxResult>>10)
		}
	}
	return b.String(), nil
}

func (s Scope) eval(kind Kind, src string) (out any, err error) {
	// The library promises no panics, but a panic here would take the
	// coordinator down on every member at once.
	defer func() {
		if r := recover(); r != nil {
			out, err = nil, fmt.Errorf("internal error: %v", r)
		}
	}()
	if s.env == nil {
		s.env, s.run = noEnv, &ci.Run{}
	}
	c, err := s.env.compiled(kind, src)
	if err != nil {
		return nil, err
	}
	values, err := s.values(c.refs)
	if err != nil {
		return nil, err
	}
	machine := vm.VM{MemoryBudget: 100_000}
	out, err = machine.Run(c.program, values)
	if err != nil {
		return nil, fmt.Errorf("%s", libraryMessage(err))
	}
	return out, nil
}

// toText turns a result into what stands in a rendered value.
func toText(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case int:
		return strconv.Itoa(v), nil
	case float64:
		return FormatNumber(v), nil
	default:
		return "", fmt.Errorf("%s cannot stand in text", typeName(reflect.TypeOf(v)))
	}
}

// FormatNumber is the canonical text of a number: the shortest that reads back
// the same, without an exponent where that stays readable.
func FormatNumber(v float64) string {
	if v > -1e15 && v < 1e15 {
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

func typeName(t reflect.Type) string {
	if t == nil {
		return "nothing"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text"
	case reflect.Int, reflect.Int64:
		return "an integer"
	case reflect.Float64, reflect.Float32:
		return "a number"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "a group of values"
	default:
		return t.String()
	}
}
