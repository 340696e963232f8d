package spec

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/expr"
	"github.com/slipway-ci/slipway/shared/expr/suggest"
)

// MaxParamLength bounds the text of one parameter, in bytes.
const MaxParamLength = 64 << 10

// Params checks the parameters given for a run against those the workflow
// declares and returns all of them in canonical text, defaults filled in. The
// error is of kind ci.Invalid, names every parameter that is wrong or missing,
// and carries the first one's name as its field.
func Params(w *ci.Workflow, given map[string]string) (map[string]string, error) {
	out := make(map[string]string, len(w.Params))
	var errs []error
	first := ""
	fail := func(name string, err error) {
		if first == "" {
			first = name
		}
		errs = append(errs, err)
	}
	names := make([]string, len(w.Params))
	for i := range w.Params {
		p := &w.Params[i]
		names[i] = p.Name
		text, ok := given[p.Name]
		switch {
		case ok:
			v, err := canonical(p, text)
			if err != nil {
				fail(p.Name, fmt.Errorf("parameter %s: %w", p.Name, err))
			}
			out[p.Name] = v
		case p.Default != nil:
			out[p.Name] = *p.Default
		default:
			fail(p.Name, fmt.Errorf("parameter %[1]s is missing: %[2]s (--param %[1]s=VALUE)", p.Name, describe(p)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if slices.Contains(names, name) {
			continue
		}
		hint := suggest.Hint(name, names)
		if len(names) == 0 {
			hint = "the workflow takes none"
		}
		if hint != "" {
			hint = ": " + hint
		}
		fail(name, fmt.Errorf("no parameter is called %s%s", short(name), hint))
	}
	if len(errs) > 0 {
		return nil, ci.FieldErrorf(ci.Invalid, first, "cannot run %s: %w", w.Name, joined(errs))
	}
	return out, nil
}

// joined is errors.Join on one line.
type joined []error

func (j joined) Error() string   { return strings.ReplaceAll(errors.Join(j...).Error(), "\n", "; ") }
func (j joined) Unwrap() []error { return j }

// describe says what a parameter takes.
func describe(p *ci.Param) string {
	s := "it takes "
	switch p.Type {
	case ci.ParamBoolean:
		s += "true or false"
	case ci.ParamInteger:
		s += "a whole number"
	case ci.ParamNumber:
		s += "a number"
	case ci.ParamChoice:
		s += "one of " + strings.Join(p.Options, ", ")
	default:
		s += "text"
	}
	if p.Description != "" {
		s += " (" + short(p.Description) + ")"
	}
	return s
}

// canonical checks a parameter's text and returns it in its canonical form.
func canonical(p *ci.Param, text string) (string, error) {
	if len(text) > MaxParamLength {
		return "", fmt.Errorf("longer than %d KiB", MaxParamLength>>10)
	}
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return "", errors.New("not valid text")
	}
	switch p.Type {
	case ci.ParamBoolean:
		switch strings.ToLower(text) {
		case "true", "yes", "on", "1":
			return "true", nil
		case "false", "no", "off", "0":
			return "false", nil
		}
		return "", fmt.Errorf("%q is not true or false", short(text))
	case ci.ParamInteger:
		i, err := strconv.Atoi(text)
		if err != nil {
			return "", fmt.Errorf("%q is no whole number", short(text))
		}
		return strconv.Itoa(i), inBounds(p, float64(i))
	case ci.ParamNumber:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || f-f != 0 { // neither infinite nor NaN
			return "", fmt.Errorf("%q is no number", short(text))
		}
		return expr.FormatNumber(f), inBounds(p, f)
	case ci.ParamChoice:
		if slices.Contains(p.Options, text) {
			return text, nil
		}
		if n := suggest.Nearest(text, p.Options); n != "" {
			return "", fmt.Errorf("%q is none of %s: did you mean %s?", short(text), strings.Join(p.Options, ", "), n)
		}
		return "", fmt.Errorf("%q is none of %s", short(text), strings.Join(p.Options, ", "))
	default:
		return text, textFits(p, text)
	}
}

func inBounds(p *ci.Param, f float64) error {
	switch {
	case p.Min != nil && f < *p.Min:
		return fmt.Errorf("%s is less than %s", expr.FormatNumber(f), expr.FormatNumber(*p.Min))
	case p.Max != nil && f > *p.Max:
		return fmt.Errorf("%s is more than %s", expr.FormatNumber(f), expr.FormatNumber(*p.Max))
	default:
		return nil
	}
}

func textFits(p *ci.Param, text string) error {
	n := utf8.RuneCountInString(text)
	switch {
	case n < p.MinLength:
		return fmt.Errorf("%d characters are less than %d", n, p.MinLength)
	case p.MaxLength > 0 && n > p.MaxLength:
		return fmt.Errorf("%d characters are more than %d", n, p.MaxLength)
	case p.Pattern == "":
		return nil
	}
	re, err := compilePattern(p.Pattern)
	if err != nil {
		return err
	}
	if !re.MatchString(text) {
		return fmt.Errorf("%q does not match %s", short(text), p.Pattern)
	}
	return nil
}

// compilePattern compiles a pattern that a whole text must match.
func compilePattern(s string) (*regexp.Regexp, error) {
	if err := expr.CheckPattern(s); err != nil { // alone, for a message without our frame
		return nil, err
	}
	return regexp.Compile(`\A(?:` + s + `)\z`)
}
