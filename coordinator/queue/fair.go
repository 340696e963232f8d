// Package queue orders waiting steps: fair between tenants, first come first
// served among the like of one tenant. It is pure.
package queue

import (
	"cmp"

	"github.com/tidwall/btree"

	"github.com/slipway-ci/slipway/shared/ci"
)

// Item is a step that waits for an agent.
type Item struct {
	Attempt ci.AttemptID
	Tenant  ci.TenantID
	Class   string         // what it asks of an agent: items of one class are alike to the scheduler
	Since   ci.ClusterTime // the order within a lane
	Cost    float64        // what running it is charged, 1 for an ordinary step
}

func (i Item) less(o Item) bool {
	if c := cmp.Compare(i.Since, o.Since); c != 0 {
		return c < 0
	}
	return i.Attempt < o.Attempt
}

// laneKey names a lane: the items of one class of one tenant.
type laneKey struct {
	tenant ci.TenantID
	class  string
}

type lane = btree.BTreeG[Item]

// Fair is the waiting line. Between tenants it is start-time fair queuing
// (Goyal, Vin and Cheng, 1996): a tenant's clock advances by what it is
// charged, and the tenant whose clock is behind goes first. A tenant that comes
// back after a pause starts at the present, so it cannot save up turns. It is
// incremental: nothing is ever sorted.
type Fair struct {
	lanes  map[laneKey]*lane
	where  map[ci.AttemptID]laneKey
	since  map[ci.AttemptID]Item
	clocks map[ci.TenantID]float64
	now    float64 // the start of the latest turn
}

// NewFair returns an empty line.
func NewFair() *Fair {
	return &Fair{
		lanes: map[laneKey]*lane{}, where: map[ci.AttemptID]laneKey{},
		since: map[ci.AttemptID]Item{}, clocks: map[ci.TenantID]float64{},
	}
}

// Len returns how many items wait.
func (f *Fair) Len() int { return len(f.where) }

// Has reports whether the attempt waits.
func (f *Fair) Has(id ci.AttemptID) bool { _, ok := f.where[id]; return ok }

// Item returns a waiting item.
func (f *Fair) Item(id ci.AttemptID) (Item, bool) { i, ok := f.since[id]; return i, ok }

// Add puts an item in line. One that waits already keeps its place.
func (f *Fair) Add(item Item) {
	if f.Has(item.Attempt) {
		return
	}
	key := laneKey{item.Tenant, item.Class}
	l := f.lanes[key]
	if l == nil {
		l = btree.NewBTreeG(Item.less)
		f.lanes[key] = l
	}
	l.Set(item)
	f.where[item.Attempt] = key
	f.since[item.Attempt] = item
}

// Remove takes an item out without a charge.
func (f *Fair) Remove(id ci.AttemptID) {
	key, ok := f.where[id]
	if !ok {
		return
	}
	l := f.lanes[key]
	l.Delete(f.since[id])
	if l.Len() == 0 {
		delete(f.lanes, key)
	}
	delete(f.where, id)
	delete(f.since, id)
}

// Charge takes an item out and advances its tenant's clock.
func (f *Fair) Charge(item Item) {
	f.Remove(item.Attempt)
	start := max(f.clocks[item.Tenant], f.now)
	f.now = start
	f.clocks[item.Tenant] = start + max(item.Cost, 1)
}

// Pass offers items in fair order: take says whether an item found a place.
// After a refusal the rest of its lane is not offered in this pass, for it asks
// the same.
func (f *Fair) Pass(take func(Item) bool) {
	shut := map[laneKey]bool{}
	for {
		key, item, ok := f.next(shut)
		if !ok {
			return
		}
		if take(item) {
			f.Charge(item)
		} else {
			shut[key] = true
		}
	}
}

// next returns the head of the lane whose turn it is.
func (f *Fair) next(shut map[laneKey]bool) (best laneKey, head Item, found bool) {
	var turn float64
	for key, l := range f.lanes {
		if shut[key] {
			continue
		}
		first, _ := l.Min()
		t := max(f.clocks[key.tenant], f.now)
		if !found || t < turn || (t == turn && first.less(head)) {
			best, head, turn, found = key, first, t, true
		}
	}
	return best, head, found
}

// Ahead returns how many items of the same lane wait before this one.
func (f *Fair) Ahead(id ci.AttemptID) int {
	if !f.Has(id) {
		return 0
	}
	n := 0
	f.lanes[f.where[id]].Scan(func(other Item) bool {
		if other.Attempt == id {
			return false
		}
		n++
		return n < 1000 // enough to say "many"
	})
	return n
}
