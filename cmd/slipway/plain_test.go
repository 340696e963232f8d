package main

import "testing"

func TestOneLine(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                          "",
		"two\nlines\tand a tab":     "two lines and a tab",
		"\x1b[31mred\x1b[0m stays":  "\x1b[31mred\x1b[0m stays",
		"\x1b[1;31mred ends":        "\x1b[1;31mred ends\x1b[0m",
		"\x1b[2J\x1b]0;title\a":     "",
		"\x1b[?25l\x1bcreset\x1b":   "reset ",
		"\x1b]8;;u\x1b\\link\x7f\b": "link  ",
		"grüße, 日本 \xff":            "grüße, 日本 \xff",
		"\u009b2J":                  " 2J",
	} {
		if got := oneLine(text); got != want {
			t.Errorf("%q is printed as %q, want %q", text, got, want)
		}
	}
}

func TestLogLine(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"a\tb \x00c\r":            "a\tb  c",
		"10 %\r50 %\rdone":        "done",
		"10 %\r50 %\r":            "50 %",
		"\x1b[2K\x1b[32mok\x1b[m": "\x1b[32mok\x1b[m",
		"\r":                      "",
	} {
		if got := logLine(text); got != want {
			t.Errorf("%q is printed as %q, want %q", text, got, want)
		}
	}
}
