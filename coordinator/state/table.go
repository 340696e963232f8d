package state

import (
	"cmp"
	"slices"

	"github.com/tidwall/btree"
)

// table is an ordered set of rows by key, with secondary indexes. Copies are
// O(1): trees are copied on write. A value, once stored, is never edited; it is
// replaced by another.
type table[K, V any] struct {
	rows    *btree.BTreeG[row[K, V]]
	indexes []*index[V]
	changed bool // since the last frozen copy
}

type row[K, V any] struct {
	key K
	val V
}

// index is a set of strings that are computed from the rows of a table; a row
// may stand in it any number of times. Keys must hold enough of the row's own
// key to be unique.
type index[V any] struct {
	keys func(v V, emit func(string))
	set  *btree.BTreeG[string]
}

func newTable[K, V any](less func(a, b K) bool, indexes ...*index[V]) *table[K, V] {
	return &table[K, V]{
		rows: btree.NewBTreeGOptions(
			func(a, b row[K, V]) bool { return less(a.key, b.key) },
			btree.Options{NoLocks: true},
		),
		indexes: indexes,
	}
}

func newIndex[V any](keys func(v V, emit func(string))) *index[V] {
	return &index[V]{keys: keys, set: btree.NewBTreeGOptions(cmp.Less[string], btree.Options{NoLocks: true})}
}

// copy returns a table that shares all nodes with this one. Either may then be
// written without the other's seeing it, but each by one writer only.
func (t *table[K, V]) copy() *table[K, V] {
	c := &table[K, V]{rows: t.rows.Copy(), indexes: make([]*index[V], len(t.indexes))}
	for i, x := range t.indexes {
		c.indexes[i] = &index[V]{keys: x.keys, set: x.set.Copy()}
	}
	return c
}

// frozen returns a copy for readers: prev, the last one, when nothing changed
// since.
func (t *table[K, V]) frozen(prev *table[K, V]) *table[K, V] {
	if prev != nil && !t.changed {
		return prev
	}
	t.changed = false
	return t.copy()
}

func (t *table[K, V]) get(k K) (V, bool) {
	r, ok := t.rows.Get(row[K, V]{key: k})
	return r.val, ok
}

func (t *table[K, V]) len() int { return t.rows.Len() }

// put stores v under k, in the place of what was there.
func (t *table[K, V]) put(k K, v V) {
	t.changed = true
	old, had := t.rows.Set(row[K, V]{key: k, val: v})
	for _, x := range t.indexes {
		fresh := x.of(v)
		var stale []string
		if had {
			stale = x.of(old.val)
		}
		for _, s := range stale {
			if !slices.Contains(fresh, s) {
				x.set.Delete(s)
			}
		}
		for _, s := range fresh {
			// Setting what is there would copy its way down for nothing.
			if !slices.Contains(stale, s) {
				x.set.Set(s)
			}
		}
	}
}

func (t *table[K, V]) delete(k K) {
	old, had := t.rows.Delete(row[K, V]{key: k})
	if !had {
		return
	}
	t.changed = true
	for _, x := range t.indexes {
		for _, s := range x.of(old.val) {
			x.set.Delete(s)
		}
	}
}

// scan calls fn for each row in order until it returns false.
func (t *table[K, V]) scan(fn func(k K, v V) bool) {
	t.rows.Scan(func(r row[K, V]) bool { return fn(r.key, r.val) })
}

// ascend is scan from k on.
func (t *table[K, V]) ascend(k K, fn func(k K, v V) bool) {
	t.rows.Ascend(row[K, V]{key: k}, func(r row[K, V]) bool { return fn(r.key, r.val) })
}

// descend calls fn for each row below k in falling order until it returns false.
func (t *table[K, V]) descend(k K, fn func(k K, v V) bool) {
	first := true
	t.rows.Descend(row[K, V]{key: k}, func(r row[K, V]) bool {
		if first {
			first = false
			if !t.rows.Less(r, row[K, V]{key: k}) {
				return true // k itself
			}
		}
		return fn(r.key, r.val)
	})
}

// reverse calls fn for each row in falling order until it returns false.
func (t *table[K, V]) reverse(fn func(k K, v V) bool) {
	t.rows.Reverse(func(r row[K, V]) bool { return fn(r.key, r.val) })
}

func (x *index[V]) of(v V) []string {
	var out []string
	x.keys(v, func(s string) { out = append(out, s) })
	return out
}

// ascend calls fn for each key of the index that begins with prefix.
func (x *index[V]) ascend(prefix string, fn func(s string) bool) {
	x.set.Ascend(prefix, func(s string) bool {
		return len(s) >= len(prefix) && s[:len(prefix)] == prefix && fn(s)
	})
}
