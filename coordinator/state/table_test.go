package state

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestTable plays random changes against a map, and checks that frozen copies
// stay what they were.
func TestTable(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		tab := newTable(cmp.Less[int], newIndex(func(v string, emit func(string)) { emit(v) }))
		model := map[int]string{}
		last := tab.frozen(nil)
		var copies []*table[int, string]
		var models []map[int]string
		for range rapid.IntRange(0, 200).Draw(rt, "changes") {
			k := rapid.IntRange(0, 40).Draw(rt, "key")
			switch rapid.IntRange(0, 9).Draw(rt, "change") {
			case 0:
				last = tab.frozen(last)
				copies, models = append(copies, last), append(models, maps.Clone(model))
			case 1, 2, 3:
				tab.delete(k)
				delete(model, k)
			default:
				v := fmt.Sprint(k, ":", rapid.IntRange(0, 3).Draw(rt, "value"))
				tab.put(k, v)
				model[k] = v
			}
		}
		copies, models = append(copies, tab), append(models, model)
		for i := range copies {
			compare(rt, copies[i], models[i])
		}
	})
}

func compare(rt *rapid.T, tab *table[int, string], model map[int]string) {
	keys := slices.Sorted(maps.Keys(model))
	var up, down, below []int
	tab.scan(func(k int, v string) bool {
		if model[k] != v {
			rt.Fatalf("row %d is %q, want %q", k, v, model[k])
		}
		up = append(up, k)
		return true
	})
	tab.reverse(func(k int, _ string) bool { down = append(down, k); return true })
	tab.descend(20, func(k int, _ string) bool { below = append(below, k); return true })
	slices.Reverse(down)
	slices.Reverse(below)
	want := keys[:len(keys)-len(keys[lowerBound(keys, 20):])]
	if !slices.Equal(up, keys) || !slices.Equal(down, keys) || !slices.Equal(below, want) || tab.len() != len(keys) {
		rt.Fatalf("keys %v, up %v, down %v, below 20 %v", keys, up, down, below)
	}
	if got := keysOf(tab.indexes[0]); !slices.Equal(got, slices.Sorted(maps.Values(model))) {
		rt.Fatalf("index %v of %v", got, model)
	}
}

func lowerBound(keys []int, k int) int {
	i, _ := slices.BinarySearch(keys, k)
	return i
}
