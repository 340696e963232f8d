package suggest

import "testing"

func TestHint(t *testing.T) {
	t.Parallel()
	known := []string{"needs", "name", "image", "retry", "run"}
	many := []string{"a1", "b2", "c3", "d4", "e5", "f6", "g7", "h8", "needs"}
	for _, c := range []struct {
		name  string
		known []string
		want  string
	}{
		{"neds", known, "did you mean needs?"},
		{"NEEDS", known, "did you mean needs?"},
		{"imgae", known, "did you mean image?"},
		{"rnu", known, "did you mean run?"},
		{"xyzzy", known, "there is image, name, needs, retry, run"},
		{"xyzzy", many, ""},
		{"nedes", many, "did you mean needs?"},
		{"anything", nil, ""},
		{"", known, "there is image, name, needs, retry, run"},
		{"dry-run", []string{"dry_run"}, "did you mean dry_run?"},
	} {
		if got := Hint(c.name, c.known); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestNearestOfEquals(t *testing.T) {
	t.Parallel()
	for _, known := range [][]string{{"tab", "tag"}, {"tag", "tab"}} {
		if got := Nearest("tax", known); got != "tab" {
			t.Errorf("%v: %s", known, got)
		}
	}
}
