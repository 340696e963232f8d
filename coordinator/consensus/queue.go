package consensus

import (
	"sync"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
)

const (
	// MaxBatch is the size in bytes at which a batch of commands closes, and so
	// the most that one command may have.
	MaxBatch = 192 << 10
	// MaxEntry is the size in bytes that no entry of the log ever exceeds:
	// larger ones delay the heartbeats sent on the same connections.
	MaxEntry = 256 << 10

	maxBatchCommands = 4096
	maxWaitingBytes  = 32 << 20
)

// waiting is a command on its way into the log, or a Verify, which has none.
type waiting struct {
	cmd    state.Command
	verify bool
	size   int // bytes, encoded alone
	done   chan outcome
}

type outcome struct {
	index uint64
	err   error
}

// queue holds what waits while the last entry is in flight. It is open only
// while this node leads.
type queue struct {
	mu    sync.Mutex
	open  bool
	items []*waiting
	bytes int
	wake  chan struct{} // holds one when there may be items
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

func (q *queue) start() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.open = true
}

// stop closes the queue and returns what still waited.
func (q *queue) stop() []*waiting {
	q.mu.Lock()
	defer q.mu.Unlock()
	left := q.items
	q.open, q.items, q.bytes = false, nil, 0
	return left
}

// push adds w; open is false when nobody here takes it.
func (q *queue) push(w *waiting) (open bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.open {
		return false, nil
	}
	if q.bytes+w.size > maxWaitingBytes {
		return true, ci.Errorf(ci.Exhausted, "too many changes wait for the log (%d bytes): try again later", q.bytes)
	}
	q.items = append(q.items, w)
	q.bytes += w.size
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true, nil
}

// remove takes w back and reports whether it was still waiting.
func (q *queue) remove(w *waiting) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, item := range q.items {
		if item == w {
			q.items = append(q.items[:i:i], q.items[i+1:]...)
			q.bytes -= w.size
			return true
		}
	}
	return false
}

// take returns the next batch in order of arrival: all that waits, up to
// MaxBatch bytes. The sizes count each command's frame, so that the entry made
// of them is smaller than their sum.
func (q *queue) take() []*waiting {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, bytes := 0, 0
	for n < len(q.items) && n < maxBatchCommands {
		if n > 0 && bytes+q.items[n].size > MaxBatch {
			break
		}
		bytes += q.items[n].size
		n++
	}
	batch := q.items[:n:n]
	q.items = q.items[n:]
	q.bytes -= bytes
	if len(q.items) > 0 {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
	return batch
}
