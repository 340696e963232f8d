package id

import (
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
)

func TestNewSortsInOrderOfMaking(t *testing.T) {
	t.Parallel()
	last := ""
	for range 20_000 {
		s := New()
		if s <= last {
			t.Fatalf("%s made after %s", s, last)
		}
		if !Valid(s) {
			t.Fatalf("%q is not valid", s)
		}
		last = s
	}
}

func TestNewIsUniqueAcrossGoroutines(t *testing.T) {
	t.Parallel()
	const each = 5_000
	made := make([][]string, 8)
	var g errgroup.Group
	for i := range made {
		g.Go(func() error {
			for range each {
				made[i] = append(made[i], New())
			}
			return nil
		})
	}
	_ = g.Wait()
	seen := make(map[string]bool)
	for _, ids := range made {
		for _, s := range ids {
			if seen[s] {
				t.Fatalf("%s made twice", s)
			}
			seen[s] = true
		}
	}
}

func TestValid(t *testing.T) {
	t.Parallel()
	good := New()
	for s, want := range map[string]bool{
		good:                         true,
		strings.ToUpper(good):        false,
		"":                           false,
		good[1:]:                     false,
		good + "0":                   false,
		"01arz3ndektsv4rrffq69g5fau": false, // u is not in the alphabet
		"81arz3ndektsv4rrffq69g5fav": false, // time does not fit
		"../../../../../etc/passwd!": false,
	} {
		if got := Valid(s); got != want {
			t.Errorf("Valid(%q) = %v, want %v", s, got, want)
		}
	}
}

func TestSecret(t *testing.T) {
	t.Parallel()
	a, b := Secret(32), Secret(32)
	if a == b || len(a) != 43 {
		t.Errorf("Secret(32) = %q, then %q", a, b)
	}
}
