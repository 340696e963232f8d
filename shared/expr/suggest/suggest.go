// Package suggest finds the name that somebody probably meant.
package suggest

import "sort"

// maxLen bounds the names that are compared: the cost is quadratic in it.
const maxLen = 48

// Nearest returns the name of known that is closest to name, or "" when none
// is close. Among equally close ones the first by alphabet wins.
func Nearest(name string, known []string) string {
	if name == "" || len(name) > maxLen {
		return ""
	}
	limit := 1 + len(name)/4
	best := ""
	for _, k := range known {
		if k == name || len(k) > maxLen || len(k) > len(name)+limit || len(name) > len(k)+limit {
			continue
		}
		d := distance(name, k, limit)
		if d > limit {
			continue
		}
		if d < limit || best == "" || k < best {
			best, limit = k, d
		}
	}
	return best
}

// Hint returns "did you mean X?", the list of what there is when that is short,
// or "".
func Hint(name string, known []string) string {
	if n := Nearest(name, known); n != "" {
		return "did you mean " + n + "?"
	}
	if len(known) == 0 || len(known) > 8 {
		return ""
	}
	sorted := append([]string(nil), known...)
	sort.Strings(sorted)
	s := "there is "
	for i, k := range sorted {
		if i > 0 {
			s += ", "
		}
		s += k
	}
	return s
}

// distance is the number of single edits (insert, delete, replace, swap of
// neighbours; case counts for nothing) between two names, or more than limit.
func distance(a, b string, limit int) int {
	var rows [3][maxLen + 1]int
	prev2, prev, cur := &rows[0], &rows[1], &rows[2]
	for j := range len(b) + 1 {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if lower(a[i-1]) == lower(b[j-1]) {
				cost = 0
			}
			d := min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && lower(a[i-1]) == lower(b[j-2]) && lower(a[i-2]) == lower(b[j-1]) {
				d = min(d, prev2[j-2]+1)
			}
			cur[j] = d
			least = min(least, d)
		}
		if least > limit {
			return limit + 1
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	if c == '_' {
		return '-'
	}
	return c
}
