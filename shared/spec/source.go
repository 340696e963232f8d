package spec

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// source is the text of the file, by line.
type source struct {
	file   string
	src    []byte
	starts []int32 // offset of each line
}

func newSource(file string, src []byte) source {
	if file == "" {
		file = "workflow.yaml"
	}
	return source{file: file, src: src}
}

// index finds the lines; most files never need it.
func (s *source) index() {
	if s.starts != nil {
		return
	}
	s.starts = make([]int32, 1, 1+bytes.Count(s.src, []byte{'\n'}))
	for i, c := range s.src {
		if c == '\n' {
			s.starts = append(s.starts, int32(i+1)) //nolint:gosec // at most MaxBytes
		}
	}
}

// line returns the text of a line, 1-based, or "".
func (s *source) line(n int) string {
	s.index()
	if n < 1 || n > len(s.starts) {
		return ""
	}
	end := len(s.src)
	if n < len(s.starts) {
		end = int(s.starts[n]) - 1
	}
	return strings.TrimSuffix(string(s.src[s.starts[n-1]:end]), "\r")
}

// excerptWidth is how many characters of a long line an excerpt shows.
const excerptWidth = 100

// excerpt shows a line with a caret below the column (1-based, in runes).
func (s *source) excerpt(line, col int) string {
	if line < 1 {
		return ""
	}
	text := []rune(strings.ToValidUTF8(s.line(line), "\uFFFD"))
	for i, r := range text {
		if r < ' ' || r == 0x7f {
			text[i] = ' '
		}
	}
	col = min(max(col, 1), len(text)+1)
	from := 0
	if len(text) > excerptWidth && col > excerptWidth/2 {
		from = col - excerptWidth/2
	}
	to := min(len(text), from+excerptWidth)
	shown, caret := string(text[from:to]), col-1-from
	if from > 0 {
		shown, caret = "..."+shown, caret+3
	}
	if to < len(text) {
		shown += "..."
	}
	return fmt.Sprintf("%5d | %s\n      | %s^", line, shown, strings.Repeat(" ", caret))
}

// place returns the line and column of a byte offset within a scalar's value,
// or those of the scalar when the value is not written as it reads.
func (s *source) place(n *yaml.Node, off int) (line, col int) {
	line, col = n.Line, n.Column
	if off < 0 || off > len(n.Value) {
		return line, col
	}
	start := strings.LastIndexByte(n.Value[:off], '\n') + 1
	end := len(n.Value)
	if i := strings.IndexByte(n.Value[start:], '\n'); i >= 0 {
		end = start + i
	}
	at := line + strings.Count(n.Value[:off], "\n")
	from := 0
	if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		at++ // the text begins below its | or >
	} else if at == line {
		from = col - 1
	}
	text := s.line(at)
	cut := byteOf(text, from)
	i := strings.Index(text[cut:], n.Value[start:end])
	if i < 0 {
		return line, col
	}
	return at, utf8.RuneCountInString(text[:cut+i+off-start]) + 1
}

// byteOf returns the byte offset of rune n of s.
func byteOf(s string, n int) int {
	for i := range s {
		if n == 0 {
			return i
		}
		n--
	}
	return len(s)
}
