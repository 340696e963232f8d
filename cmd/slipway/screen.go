package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"
)

// screen prints lines above one line that stays, where the stream is a
// terminal; elsewhere just the lines.
type screen struct {
	mu    sync.Mutex
	w     io.Writer
	style style
	live  bool
	last  string
}

func newScreen(w io.Writer, s style) *screen {
	return &screen{w: w, style: s, live: bool(s) && isTerminal(w)}
}

// line prints one line.
func (s *screen) line(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	fmt.Fprintln(s.w, text)
	s.draw()
}

// sticky replaces the line that stays.
func (s *screen) sticky(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	s.last = text
	s.draw()
}

// close takes the line that stays away.
func (s *screen) close() { s.sticky("") }

func (s *screen) clear() {
	if s.live && s.last != "" {
		fmt.Fprint(s.w, "\r\x1b[K")
	}
}

func (s *screen) draw() {
	if s.live && s.last != "" {
		fmt.Fprint(s.w, s.style.dim(clip(s.last, s.columns()-1)))
	}
}

func (s *screen) columns() int {
	if f, ok := s.w.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
			return w
		}
	}
	return 80
}

func clip(text string, n int) string {
	runes := []rune(text)
	if len(runes) <= n || n < 1 {
		return text
	}
	return strings.TrimRight(string(runes[:n-1]), " ") + "…"
}
