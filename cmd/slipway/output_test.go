package main

import "testing"

func TestOneLine(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                 "",
		"two\nlines\tand a tab":            "two lines and a tab",
		"\x1b[31mred\x1b[0m stays":         "\x1b[31mred\x1b[0m stays",
		"\x1b[2J\x1b]0;title\a\x7f clears": " [2J ]0;title   clears",
		"grüße, 日本 \xff":                   "grüße, 日本 \uFFFD",
	} {
		if got := oneLine(text); got != want {
			t.Errorf("%q is printed as %q, want %q", text, got, want)
		}
	}
}
