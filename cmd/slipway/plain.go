package main

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What terminals obey: control sequences, of which colours are those that end
// in m, commands for the terminal's program, and two-letter ones.
var (
	escapes = regexp.MustCompile("^\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)|[ -/]*[0-~])")
	colours = regexp.MustCompile("^\x1b\\[[0-9;:]*m$")
)

const colourReset = "\x1b[0m"

// plain makes text that somebody else wrote safe between others: colours are all
// that is left of what a terminal would obey, and they end with the text.
func plain(text string, blanks string) string {
	if strings.IndexFunc(text, unicode.IsControl) < 0 {
		return text
	}
	var out strings.Builder
	coloured := false
	for len(text) > 0 {
		if escape := escapes.FindString(text); escape != "" {
			if colours.MatchString(escape) {
				out.WriteString(escape)
				coloured = escape != colourReset && escape != "\x1b[m"
			}
			text = text[len(escape):]
			continue
		}
		r, n := utf8.DecodeRuneInString(text)
		if unicode.IsControl(r) && !strings.ContainsRune(blanks, r) {
			out.WriteByte(' ')
		} else {
			out.WriteString(text[:n])
		}
		text = text[n:]
	}
	if coloured {
		out.WriteString(colourReset)
	}
	return out.String()
}

// oneLine is for a cell, or a value behind its name.
func oneLine(text string) string { return plain(text, "") }

// logLine is a line of a log as people read it: what a carriage return went back
// over, as bars of progress do, is gone. `logs --raw` has every byte.
func logLine(text string) string {
	text = strings.TrimRight(text, "\r")
	return plain(text[strings.LastIndexByte(text, '\r')+1:], "\t")
}
