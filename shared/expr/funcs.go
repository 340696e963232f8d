package expr

import (
	"fmt"
	"reflect"
	"regexp"
	"regexp/syntax"
	"strings"

	"github.com/expr-lang/expr/builtin"
	"github.com/expr-lang/expr/conf"
)

// allowed are the library's functions that may be called. Not here, on
// purpose: what reads the clock (now, date), what loops (map, any, ...), what
// can make a long string of a short one (repeat, join), and what follows the
// random order of maps (keys, values).
var allowed = map[string]bool{
	"len": true, "int": true, "float": true, "string": true,
	"abs": true, "ceil": true, "floor": true, "round": true, "min": true, "max": true,
	"lower": true, "upper": true, "trim": true, "trimPrefix": true, "trimSuffix": true,
	"hasPrefix": true, "hasSuffix": true, "indexOf": true, "split": true,
}

// own are our functions. replace is the library's with a bound on its result.
var own = map[string]*builtin.Function{
	"hash":    {Name: "hash", Func: hashToken, Types: []reflect.Type{reflect.TypeFor[func(string, ...string) string]()}},
	"replace": {Name: "replace", Func: replace, Types: []reflect.Type{reflect.TypeFor[func(string, string, string) string]()}},
	matchFunc: {Name: matchFunc, Func: match, Types: []reflect.Type{reflect.TypeFor[func(string, string) bool]()}},
}

// matchFunc stands in the tree for the operator `matches`; no source can spell it.
const matchFunc = "matches()"

// functionNames lists what people may call, for suggestions.
func functionNames() []string {
	names := []string{"hash", "replace"}
	for n := range allowed {
		names = append(names, n)
	}
	return names
}

// newConfig returns the library's configuration for one compilation. The
// function tables are shared and only read.
func newConfig() *conf.Config {
	return &conf.Config{
		ShortCircuit: true,
		Strict:       true,
		MaxNodes:     MaxNodes,
		Functions:    own,
		Builtins:     builtins,
	}
}

var builtins = func() conf.FunctionsTable {
	t := conf.FunctionsTable{}
	for _, f := range builtin.Builtins {
		if allowed[f.Name] {
			t[f.Name] = f
		}
	}
	return t
}()

func replace(args ...any) (any, error) {
	s, from, to := args[0].(string), args[1].(string), args[2].(string)
	if from == "" {
		return nil, fmt.Errorf("replace needs something to look for")
	}
	if n := strings.Count(s, from); len(s)+n*(len(to)-len(from)) > MaxResult {
		return nil, fmt.Errorf("replace makes a text of more than %d KiB", MaxResult>>10)
	}
	return strings.ReplaceAll(s, from, to), nil
}

// Bounds of `matches`: the work is at most their product.
const (
	maxPattern = 200  // bytes of the pattern
	maxProgram = 2000 // instructions of the compiled pattern, about
	maxSubject = 4096 // bytes of the text
)

// CheckPattern returns why a regular expression of a workflow file cannot be
// used, or nil: it is wrong, or could cost too much.
func CheckPattern(pattern string) error {
	if len(pattern) > maxPattern {
		return fmt.Errorf("the pattern is longer than %d bytes", maxPattern)
	}
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return fmt.Errorf("bad pattern: %w", err)
	}
	if size(re) > maxProgram {
		return fmt.Errorf("the pattern is too complex: fewer or smaller repetitions, please")
	}
	return nil
}

// size estimates how many instructions a pattern compiles to, without
// compiling it: that alone may take a while.
func size(re *syntax.Regexp) int {
	n := 1 + len(re.Rune)
	for _, sub := range re.Sub {
		n += size(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min, re.Max, 1)
	}
	return min(n, 1<<20)
}

func match(args ...any) (any, error) {
	s, pattern := args[0].(string), args[1].(string)
	if len(s) > maxSubject {
		return nil, fmt.Errorf("matches looks at no more than %d KiB of text", maxSubject>>10)
	}
	if err := CheckPattern(pattern); err != nil {
		return nil, err
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("bad pattern: %w", err)
	}
	return re.MatchString(s), nil
}
