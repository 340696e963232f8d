package logship

import (
	"bytes"
	"testing"
	"time"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/shared/objectstore/objectstoretest"
)

// BenchmarkFlood is a log from the runtime's hands to the bucket.
func BenchmarkFlood(b *testing.B) {
	s := New(Config{Bucket: objectstoretest.Memory(), Log: discard(), MaxLog: 1 << 40})
	l, stop := start(b, s, b.TempDir())
	defer stop()
	r := runtime.Record{Time: time.Unix(1, 2), Data: bytes.Repeat([]byte("0123456789 abcdef "), 6), Cursor: "123456789"}
	b.SetBytes(int64(len(r.Data)))
	for b.Loop() {
		if err := l.Write(r); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := l.Finish(b.Context()); err != nil {
		b.Fatal(err)
	}
}
