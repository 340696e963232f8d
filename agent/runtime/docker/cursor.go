package docker

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/shared/ci"
)

// The engine can read a log from a time on, and its records are in the order of
// writing, which is not quite that of their times: each stream takes the time
// before it waits for the file. So a place in a log is a time a few seconds back
// and how many records from that time on were seen. Reading again from the base
// gives the same records in the same order. (Only what was written after the
// host's clock went back by more than keep is missed, and only by a cursor that
// is older than that and has to be read from again.)
const (
	slot = int64(100 * time.Millisecond)
	keep = int64(3 * time.Second)
)

// place is where a reader stands.
type place struct {
	base  int64 // ns since 1970; 0 is the log's beginning
	seen  int64 // records with times from base on
	total int64 // records since the log's beginning
	// window counts the seen records of each slot, ascending; it is what lets the
	// base move on. stuck is a base that never does.
	window []count
	stuck  bool
}

type count struct{ slot, n int64 }

// pass notes one record as seen.
func (p *place) pass(ns int64) {
	p.total++
	s := ns - ns%slot
	if p.stuck {
		p.seen++
		return
	}
	if s < p.base {
		// The host's clock was set back. From here on only the beginning is a base
		// of which the count is known.
		*p = place{seen: p.total, total: p.total, stuck: true}
		return
	}
	p.seen++
	i := len(p.window)
	for i > 0 && p.window[i-1].slot > s {
		i--
	}
	if i > 0 && p.window[i-1].slot == s {
		p.window[i-1].n++
	} else {
		p.window = append(p.window, count{})
		copy(p.window[i+1:], p.window[i:])
		p.window[i] = count{s, 1}
	}
	newest := p.window[len(p.window)-1].slot
	for len(p.window) > 1 && p.window[1].slot <= newest-keep {
		p.seen -= p.window[0].n
		p.window = p.window[1:]
		p.base = p.window[0].slot
	}
}

// since is the base as the engine wants it.
func (p *place) since() string {
	if p.base == 0 {
		return ""
	}
	return fmt.Sprintf("%d.%09d", p.base/1e9, p.base%1e9)
}

// rewind goes back to the base and returns how many records are to be skipped.
func (p *place) rewind() (skip int64) {
	skip = p.seen
	*p = place{base: p.base, total: p.total - skip}
	return skip
}

// cursor is base.seen.total.
func (p *place) cursor() runtime.Cursor {
	b := make([]byte, 0, 40)
	b = strconv.AppendInt(b, p.base, 10)
	b = strconv.AppendInt(append(b, '.'), p.seen, 10)
	b = strconv.AppendInt(append(b, '.'), p.total, 10)
	return runtime.Cursor(b)
}

func parseCursor(c runtime.Cursor) (place, error) {
	if c == "" {
		return place{}, nil
	}
	var n [3]int64
	parts := strings.Split(string(c), ".")
	ok := len(parts) == 3
	for i := 0; ok && i < 3; i++ {
		var err error
		n[i], err = strconv.ParseInt(parts[i], 10, 64)
		ok = err == nil && n[i] >= 0
	}
	if !ok || n[1] > n[2] {
		return place{}, ci.Errorf(ci.Invalid, "%q is no cursor of it", c)
	}
	return place{base: n[0], seen: n[1], total: n[2]}, nil
}
