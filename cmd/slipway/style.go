package main

import (
	"io"
	"os"

	"golang.org/x/term"
)

// style colours text for one stream: only on a terminal, and only when nobody
// asked for none.
type style bool

func (c *cli) style(w io.Writer) style {
	return style(!c.noColor && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isTerminal(w))
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func (s style) paint(code, text string) string {
	if !s || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) red(t string) string   { return s.paint("31", t) }
func (s style) green(t string) string { return s.paint("32", t) }
func (s style) dim(t string) string   { return s.paint("2", t) }
func (s style) bold(t string) string  { return s.paint("1", t) }

// state colours the state of a run, step or agent.
func (s style) state(t string) string {
	switch t {
	case "passed", "ready", "succeeded":
		return s.paint("32", t)
	case "failed", "timed_out", "expired", "lost", "gone":
		return s.paint("31", t)
	case "soft_failed", "canceled", "canceling", "silent", "draining", "rejected":
		return s.paint("33", t)
	case "running", "preparing", "reporting", "assigned":
		return s.paint("36", t)
	default:
		return s.paint("2", t)
	}
}

// stepColours tell the steps' prefixes apart in a followed log.
var stepColours = []string{"36", "35", "34", "33", "32", "96", "95", "94"}
