package consensus

import (
	"testing"

	"github.com/slipway-ci/slipway/shared/ci"
)

func TestQueueTakesInOrderUpToTheLimit(t *testing.T) {
	t.Parallel()
	q := newQueue()
	if open, _ := q.push(&waiting{size: 1}); open {
		t.Fatal("a closed queue took something")
	}
	q.start()
	sizes := []int{10, MaxBatch - 10, 1, 0, MaxBatch, 5}
	var all []*waiting
	for _, s := range sizes {
		w := &waiting{size: s}
		all = append(all, w)
		if open, err := q.push(w); !open || err != nil {
			t.Fatal(open, err)
		}
	}
	if !q.remove(all[5]) || q.remove(all[5]) {
		t.Error("remove does not tell whether it was there")
	}
	at := 0
	for _, want := range []int{2, 2, 1, 0} {
		select {
		case <-q.wake:
		default:
			if want > 0 {
				t.Fatal("nobody was woken for the rest")
			}
		}
		batch := q.take()
		if len(batch) != want {
			t.Fatalf("batch of %d, want %d", len(batch), want)
		}
		for _, w := range batch {
			if w != all[at] {
				t.Fatalf("item %d is out of order", at)
			}
			at++
		}
	}
	if q.bytes != 0 || len(q.stop()) != 0 {
		t.Errorf("%d bytes left", q.bytes)
	}
}

func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	q := newQueue()
	q.start()
	for range maxWaitingBytes / MaxBatch {
		if _, err := q.push(&waiting{size: MaxBatch}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := q.push(&waiting{size: MaxBatch}); ci.KindOf(err) != ci.Exhausted {
		t.Errorf("push = %v", err)
	}
	if n := len(q.stop()); n != maxWaitingBytes/MaxBatch {
		t.Errorf("stop returned %d", n)
	}
}
