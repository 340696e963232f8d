package spec

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/expr"
)

// scalar returns the text of a scalar that stands for text: numbers that YAML
// would change on the way are refused.
func (p *parser) scalar(n *yaml.Node, what string) (string, bool) {
	if n.Kind != yaml.ScalarNode || isNull(n) {
		p.errorf(n, codeType, "", "%s must be text, not %s", what, kindName(n))
		return "", false
	}
	switch n.ShortTag() {
	case "!!float":
		msg := "%s: %s is a number"
		if f, err := strconv.ParseFloat(n.Value, 64); err == nil && strconv.FormatFloat(f, 'f', -1, 64) != n.Value {
			msg += ", which YAML reads as " + strconv.FormatFloat(f, 'f', -1, 64)
		}
		p.errorf(n, codeFloat, `write "`+n.Value+`"`, msg, what, n.Value)
		return "", false
	case "!!int":
		if i, err := strconv.ParseInt(n.Value, 10, 64); err != nil || strconv.FormatInt(i, 10) != n.Value {
			p.errorf(n, codeFloat, `write "`+n.Value+`"`, "%s: YAML reads %s as another number", what, n.Value)
			return "", false
		}
	}
	return n.Value, true
}

// text reads text that is not templated, and not empty.
func (p *parser) text(n *yaml.Node, what string) (string, bool) {
	s, ok := p.scalar(n, what)
	if !ok {
		return "", false
	}
	if i := strings.Index(s, "${{"); i >= 0 {
		line, col := p.source.place(n, i)
		p.errorAt(line, col, codeTemplate, "", "%s is not templated", what)
		return "", false
	}
	if strings.TrimSpace(s) == "" {
		p.errorf(n, codeValue, "", "%s is empty", what)
		return "", false
	}
	return s, true
}

// template reads text that may hold ${{ }} and registers it for the check.
func (p *parser) template(n *yaml.Node, what string, u use) (string, bool) {
	s, ok := p.scalar(n, what)
	if ok && expr.HasTemplate(s) {
		u.node, u.src, u.what = n, s, what
		p.uses = append(p.uses, u)
	}
	return s, ok
}

// oneOf reads one of a few words.
func (p *parser) oneOf(n *yaml.Node, what string, options ...string) (string, bool) {
	s, ok := p.text(n, what)
	if !ok {
		return "", false
	}
	if slices.Contains(options, s) {
		return s, true
	}
	p.errorf(n, codeValue, p.suggestion(s, options), "%s cannot be %s", what, short(s))
	return "", false
}

func (p *parser) boolean(n *yaml.Node, what string) (bool, bool) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!bool" {
		return strings.EqualFold(n.Value, "true"), true
	}
	p.errorf(n, codeType, "", "%s must be true or false, not %s", what, kindName(n))
	return false, false
}

func (p *parser) integer(n *yaml.Node, what string, low, high int) (int, bool) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!int" {
		if i, err := strconv.Atoi(n.Value); err == nil {
			if i >= low && i <= high {
				return i, true
			}
			p.errorf(n, codeValue, "", "%s must be from %d to %d, not %d", what, low, high, i)
			return 0, false
		}
	}
	p.errorf(n, codeType, "", "%s must be a whole number, not %s", what, kindName(n))
	return 0, false
}

func (p *parser) number(n *yaml.Node, what string) (float64, bool) {
	if n.Kind == yaml.ScalarNode && (n.ShortTag() == "!!int" || n.ShortTag() == "!!float") {
		if f, err := strconv.ParseFloat(n.Value, 64); err == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
			return f, true
		}
	}
	p.errorf(n, codeType, "", "%s must be a number, not %s", what, kindName(n))
	return 0, false
}

// maxDuration bounds every duration of a file.
const maxDuration = 366 * 24 * time.Hour

func (p *parser) duration(n *yaml.Node, what string) (time.Duration, bool) {
	if n.Kind != yaml.ScalarNode || isNull(n) {
		p.errorf(n, codeType, `as in "30s"`, "%s must be a duration, not %s", what, kindName(n))
		return 0, false
	}
	d, err := ParseDuration(n.Value)
	if err != nil && expr.HasTemplate(n.Value) {
		p.errorf(n, codeTemplate, "", "%s is not templated", what)
		return 0, false
	}
	if err != nil {
		hint := "as in 90s, 20m, 1h30m or 7d"
		if _, numErr := strconv.ParseFloat(n.Value, 64); numErr == nil {
			hint = "give it a unit: " + n.Value + "s or " + n.Value + "m?"
		}
		p.errorf(n, codeValue, hint, "%s: %s is no duration", what, short(n.Value))
		return 0, false
	}
	if d < 0 || d > maxDuration {
		p.errorf(n, codeValue, "", "%s must be from 0 to 366d", what)
		return 0, false
	}
	return d, true
}

// ParseDuration reads a duration in Go's syntax, with d for days of 24 hours as
// the largest unit: 1d12h. A bare 0 needs no unit.
func ParseDuration(s string) (time.Duration, error) {
	days, rest, ok := strings.Cut(s, "d")
	if !ok {
		return time.ParseDuration(s)
	}
	n, err := strconv.ParseFloat(days, 64)
	if err != nil || math.IsNaN(n) || math.Abs(n) > 1e5 {
		return 0, ci.Errorf(ci.Invalid, "cannot read %q as a duration", s)
	}
	d := time.Duration(n * float64(24*time.Hour))
	if rest == "" {
		return d, nil
	}
	if rest[0] == '-' || rest[0] == '+' {
		return 0, ci.Errorf(ci.Invalid, "cannot read %q as a duration", s)
	}
	more, err := time.ParseDuration(rest)
	return d + more, err
}

// sizeUnits, longest first: Ki is 1024, K and KB are 1000.
var sizeUnits = []struct {
	name string
	size float64
}{
	{"KiB", 1 << 10},
	{"MiB", 1 << 20},
	{"GiB", 1 << 30},
	{"TiB", 1 << 40},
	{"Ki", 1 << 10},
	{"Mi", 1 << 20},
	{"Gi", 1 << 30},
	{"Ti", 1 << 40},
	{"KB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"TB", 1e12},
	{"k", 1e3},
	{"K", 1e3},
	{"M", 1e6},
	{"G", 1e9},
	{"T", 1e12},
	{"B", 1},
}

// ParseSize reads a size in bytes: 4Gi, 512Mi, 2GB, 1.5G or a plain number.
func ParseSize(s string) (int64, error) {
	num, unit := strings.TrimSpace(s), 1.0
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(num, u.name); ok {
			num, unit = strings.TrimSpace(rest), u.size
			break
		}
	}
	f, err := strconv.ParseFloat(num, 64)
	if err != nil || !(f >= 0 && f*unit <= 1<<50) {
		return 0, ci.Errorf(ci.Invalid, "cannot read %q as a size", s)
	}
	return int64(f * unit), nil
}

func (p *parser) size(n *yaml.Node, what string) (int64, bool) {
	if n.Kind == yaml.ScalarNode && !isNull(n) {
		if b, err := ParseSize(n.Value); err == nil {
			return b, true
		}
	}
	p.errorf(n, codeValue, "as in 512Mi, 4Gi or 2GB", "%s must be a size, not %s", what, kindName(n))
	return 0, false
}

// cpu reads cores, as 2, 0.5 or "500m", in thousandths.
func (p *parser) cpu(n *yaml.Node, what string) (int64, bool) {
	if n.Kind == yaml.ScalarNode && !isNull(n) {
		num, milli := strings.CutSuffix(n.Value, "m")
		f, err := strconv.ParseFloat(num, 64)
		if !milli {
			f *= 1000
		}
		if err == nil && f >= 1 && f <= 1e6 {
			return int64(math.Round(f)), true
		}
		if err == nil {
			p.errorf(n, codeValue, "", "%s must be between 0.001 and 1000 cores, not %s", what, kindName(n))
			return 0, false
		}
	}
	p.errorf(n, codeValue, "as in 2, 0.5 or 500m", "%s must be a number of cores, not %s", what, kindName(n))
	return 0, false
}

// texts reads a list of texts, or a single one.
func (p *parser) texts(n *yaml.Node, what string, read func(*yaml.Node, string) (string, bool)) []string {
	if n.Kind == yaml.ScalarNode {
		if s, ok := read(n, what); ok {
			return []string{s}
		}
		return nil
	}
	items, ok := p.items(n, what)
	if !ok {
		return nil
	}
	out := make([]string, 0, len(items))
	for _, item := range items {
		if s, ok := read(item, what); ok {
			out = append(out, s)
		}
	}
	return out
}
