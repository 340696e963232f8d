package expr

import "strings"

const (
	opening = "${{"
	closing = "}}"
)

// HasTemplate reports whether src holds a ${{.
func HasTemplate(src string) bool { return strings.Contains(src, opening) }

type part struct {
	text string
	off  int // byte offset of text in the source
	expr bool
}

// split cuts src into literal text and expressions. A }} inside a string
// literal of an expression does not end it.
func split(src string) ([]part, *Error) {
	var parts []part
	pos := 0
	for {
		i := strings.Index(src[pos:], opening)
		if i < 0 {
			if pos < len(src) {
				parts = append(parts, part{text: src[pos:], off: pos})
			}
			return parts, nil
		}
		if i > 0 {
			parts = append(parts, part{text: src[pos : pos+i], off: pos})
		}
		start := pos + i + len(opening)
		n := exprEnd(src[start:])
		if n < 0 {
			return parts, &Error{Off: pos + i, Msg: "${{ without its }}"}
		}
		parts = append(parts, part{text: src[start : start+n], off: start, expr: true})
		pos = start + n + len(closing)
	}
}

// exprEnd returns the offset of the }} that ends the expression, or -1.
func exprEnd(s string) int {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '\'', '"', '`':
			n := literalEnd(s[i:])
			if n < 0 {
				return -1
			}
			i += n - 1
		case '}':
			if strings.HasPrefix(s[i:], closing) {
				return i
			}
		}
	}
	return -1
}

// literalEnd returns the length of the string literal that s starts with, or
// -1 when it is not closed.
func literalEnd(s string) int {
	quote := s[0]
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quote != '`':
			i++
		case s[i] == quote:
			return i + 1
		}
	}
	return -1
}

// Unwrap strips the ${{ }} of a condition that consists of just one, as people
// coming from other systems write it. off is how much was cut off in front.
func Unwrap(src string) (inner string, off int) {
	parts, err := split(strings.TrimSpace(src))
	if err != nil || len(parts) != 1 || !parts[0].expr {
		return src, 0
	}
	return parts[0].text, strings.Index(src, opening) + len(opening)
}
