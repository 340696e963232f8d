package logship

import (
	"bytes"
	"context"
	"fmt"
	"sort"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/logpath"
)

// maxTail bounds one answer of a tail in bytes of records.
const maxTail = 512 << 10

func (l *Log) tail(ctx context.Context, from int64, limit int, wait time.Duration) ([]logpath.Record, int64, bool, error) {
	if from < 0 || limit < 1 {
		return nil, from, false, ci.Errorf(ci.Invalid, "cannot read a log from record %d, %d records: give a place and a number", from, limit)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		l.mu.Lock()
		lines, size, sealed, changed := l.lines, l.size, l.sealed, l.changed
		at := l.marks[max(sort.Search(len(l.marks), func(i int) bool { return l.marks[i].line > from })-1, 0)]
		l.mu.Unlock()
		if from < lines {
			records, err := l.read(at, size, from, limit)
			next := from + int64(len(records))
			return records, next, sealed && next == lines, err
		}
		if sealed {
			return nil, lines, true, nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return nil, from, false, nil
		case <-ctx.Done():
			return nil, from, false, fmt.Errorf("cannot follow a log: %w", context.Cause(ctx))
		}
	}
}

// read returns records from number from on, reading the spool from a mark.
func (l *Log) read(at mark, size, from int64, limit int) ([]logpath.Record, error) {
	var records []logpath.Record
	n, total := at.line, 0
	err := scan(l.file, at.offset, size, func(line []byte, _ int64) (bool, error) {
		if bytes.HasPrefix(line, trailerStart) {
			return true, nil
		}
		if n++; n <= from {
			return true, nil
		}
		r, err := logpath.ParseRecord(line)
		if err != nil {
			return false, err
		}
		records = append(records, r)
		total += len(line)
		return len(records) < limit && total < maxTail, nil
	})
	return records, err
}
