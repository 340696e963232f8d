package spec

import (
	"bytes"
	"errors"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

// load turns the text into a tree of nodes, within the limits; nil when that
// is impossible, with the reason among the problems.
func (p *parser) load() *yaml.Node {
	src := p.source.src
	if len(src) > MaxBytes {
		p.source.src = src[:MaxBytes] // for the excerpt
		p.errorAt(1, 1, codeLimit, "", "the file has %d KiB: at most %d KiB are read", len(src)>>10, MaxBytes>>10)
		return nil
	}
	if !p.checkText() {
		return nil
	}
	if n := separators(src); n > MaxNodes {
		p.errorAt(1, 1, codeLimit, "split the workflow", "the file has up to %d values: at most %d are read", n, MaxNodes)
		return nil
	}
	var doc yaml.Node
	if err := yaml.Load(src, &doc, yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(2*MaxDepth)))); err != nil {
		p.syntax(err)
		return nil
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) == 0 {
		p.errorAt(1, 1, codeSyntax, "the least is a list of steps:", "the file is empty")
		return nil
	}
	root := doc.Content[0]
	if !p.checkTree(root) {
		return nil
	}
	return root
}

// checkText refuses what YAML cannot hold, one problem a line.
func (p *parser) checkText() bool {
	ok, line, start := true, 1, 0
	src := p.source.src
	for i := 0; i < len(src); {
		c := src[i]
		if c == '\n' {
			line, start = line+1, i+1
		}
		if c >= ' ' && c < 0x7f || c == '\n' || c == '\t' || c == '\r' {
			i++
			continue
		}
		r, n := utf8.DecodeRune(src[i:])
		msg := ""
		switch {
		case r == utf8.RuneError && n == 1:
			msg = "the file is not valid UTF-8"
		case r < ' ' || r >= 0x7f && r < 0xa0 && r != 0x85 || r == 0xfffe || r == 0xffff:
			msg = "a control character"
		}
		if msg == "" {
			i += n
			continue
		}
		ok = false
		p.errorAt(line, utf8.RuneCount(src[start:i])+1, codeEncoding, "", "%s: byte 0x%02x", msg, c)
		if len(p.found) >= MaxProblems {
			return false
		}
		end := bytes.IndexByte(src[i:], '\n')
		if end < 0 {
			return false
		}
		i += end
	}
	return ok
}

// separators bounds the number of values from above, or nearly so, before
// anything is built: every value is set off by one of these. The library's cost
// for a megabyte of commas would be a second and a gigabyte. Scripts count too,
// at about one separator in 50 bytes, so that no sensible file is refused.
func separators(src []byte) int {
	n := 0
	for i, c := range src {
		switch c {
		case ',', '[', '{':
			n++
		case ':', '-', '?':
			if i+1 == len(src) || strings.IndexByte(" \n\t\r,[]{}\"'", src[i+1]) >= 0 {
				n++
			}
		}
	}
	return n
}

// syntax reports an error of the YAML library in our words.
func (p *parser) syntax(err error) {
	var many *yaml.LoadErrors
	if errors.As(err, &many) && len(many.Errors) > 0 {
		msg := many.Errors[0].Message
		switch {
		case strings.Contains(msg, "no documents"):
			p.errorAt(1, 1, codeSyntax, "the least is a list of steps:", "the file is empty")
		case strings.Contains(msg, "found multiple"):
			p.errorAt(p.secondDocument(), 1, codeSyntax, "one file is one workflow", "a second document begins")
		default:
			p.errorAt(1, 1, codeSyntax, "", "%s", strings.TrimPrefix(msg, "yaml: "))
		}
		return
	}
	var one *yaml.LoadError
	if !errors.As(err, &one) {
		p.errorAt(1, 1, codeSyntax, "", "%s", err)
		return
	}
	line, col := max(one.Mark.Line, 1), max(one.Mark.Column, 1)
	msg, hint := one.Message, ""
	at := p.source.line(line)
	switch {
	case strings.Contains(msg, "exceeded max depth"):
		p.tooDeep(line, col)
		return
	case strings.Contains(msg, "cannot start any token"):
		c := at[byteOf(at, col-1):]
		switch {
		case strings.HasPrefix(c, "\t"):
			msg, hint = "a tab cannot indent YAML", "use spaces"
		case c != "":
			msg, hint = "a value cannot start with "+c[:1], "quote it"
		}
	case strings.Contains(msg, "mapping values are not allowed"):
		hint = `quote a value that holds ": "`
	case strings.Contains(msg, "unexpected end of stream") && one.ContextMark.Line > 0:
		line, col = one.ContextMark.Line, one.ContextMark.Column
		msg = "the quote that opens here is never closed"
	case strings.Contains(msg, "did not find expected"):
		hint = "look at the indentation and for a missing bracket"
		if one.ContextMsg != "" {
			msg = one.ContextMsg + ": " + msg
		}
	}
	p.errorAt(line, col, codeSyntax, hint, "%s", msg)
}

func (p *parser) secondDocument() int {
	p.source.index()
	for n := 2; n <= len(p.source.starts); n++ {
		if strings.HasPrefix(p.source.line(n), "---") {
			return n
		}
	}
	return 1
}

func (p *parser) tooDeep(line, col int) {
	p.errorAt(line, col, codeLimit, "", "nested deeper than %d levels", MaxDepth)
}
