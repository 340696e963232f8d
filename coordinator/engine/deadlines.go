package engine

import (
	"container/heap"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
)

// deadlines remembers at most one time for each key and finds the earliest.
// Entries of the heap whose time is not the key's any more are dropped when
// they come up.
type deadlines[K comparable] struct {
	at   map[K]ci.ClusterTime
	heap dueHeap[K]
}

type dueEntry[K comparable] struct {
	at  ci.ClusterTime
	key K
}

func newDeadlines[K comparable]() *deadlines[K] {
	return &deadlines[K]{at: make(map[K]ci.ClusterTime)}
}

// set gives k the time at; 0 takes its time away.
func (d *deadlines[K]) set(k K, at ci.ClusterTime) {
	if at == 0 {
		delete(d.at, k)
		return
	}
	if d.at[k] == at {
		return
	}
	d.at[k] = at
	heap.Push(&d.heap, dueEntry[K]{at, k})
	if len(d.heap) > 2*len(d.at)+64 {
		d.compact()
	}
}

// compact drops the entries that are nobody's time any more.
func (d *deadlines[K]) compact() {
	d.heap = d.heap[:0]
	for k, at := range d.at {
		d.heap = append(d.heap, dueEntry[K]{at, k})
	}
	heap.Init(&d.heap)
}

// earlier sets the time of k unless it has an earlier one.
func (d *deadlines[K]) earlier(k K, at ci.ClusterTime) {
	if old, ok := d.at[k]; !ok || at < old {
		d.set(k, at)
	}
}

// first returns the earliest time.
func (d *deadlines[K]) first() (ci.ClusterTime, bool) {
	for len(d.heap) > 0 {
		e := d.heap[0]
		if d.at[e.key] == e.at {
			return e.at, true
		}
		heap.Pop(&d.heap)
	}
	return 0, false
}

// take removes and returns the keys whose time has come.
func (d *deadlines[K]) take(now ci.ClusterTime) []K {
	var due []K
	for {
		at, ok := d.first()
		if !ok || at > now {
			return due
		}
		e := heap.Pop(&d.heap).(dueEntry[K])
		delete(d.at, e.key)
		due = append(due, e.key)
	}
}

// arm sets the timer for the earliest time. Cluster time runs as the leader's
// own clock does; where it lags a little, the timer is armed once more.
func (d *deadlines[K]) arm(t *time.Timer, now ci.ClusterTime) {
	if at, ok := d.first(); ok {
		t.Reset(max(at.Sub(now), time.Millisecond))
	} else {
		t.Stop()
	}
}

type dueHeap[K comparable] []dueEntry[K]

func (h dueHeap[K]) Len() int           { return len(h) }
func (h dueHeap[K]) Less(i, j int) bool { return h[i].at < h[j].at }
func (h dueHeap[K]) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push and Pop are for container/heap.
func (h *dueHeap[K]) Push(x any) { *h = append(*h, x.(dueEntry[K])) }

// Pop removes the last element.
func (h *dueHeap[K]) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}
