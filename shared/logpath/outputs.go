package logpath

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/slipway-ci/slipway/shared/ci"
)

// ParseOutputs reads the file in which a step leaves its outputs:
//
//	key=value
//	key<<EOF
//	several
//	lines
//	EOF
//
// Keys are of [A-Za-z0-9._-]; a later line replaces an earlier one of its key;
// empty lines are skipped; values are UTF-8 without NUL, since they become
// environment variables. The file may have MaxReport bytes in all.
func ParseOutputs(data []byte) (map[string]string, error) {
	if len(data) > MaxReport {
		return nil, ci.Errorf(ci.Invalid, "cannot use outputs: %d bytes, at most %d are read", len(data), MaxReport)
	}
	out := map[string]string{}
	lines := strings.Split(string(data), "\n")
	for i := 0; i < len(lines); i++ {
		line, number := strings.TrimSuffix(lines[i], "\r"), i+1
		if line == "" {
			continue
		}
		eq, doc := strings.Index(line, "="), strings.Index(line, "<<")
		var key, value string
		switch {
		case doc >= 0 && (eq < 0 || doc < eq):
			key = line[:doc]
			end := line[doc+len("<<"):]
			last, ok := find(lines, i+1, end)
			if end == "" || !ok {
				return nil, ci.Errorf(ci.Invalid, "cannot use outputs: line %d opens %q with <<%s, which nothing closes", number, key, end)
			}
			value = strings.Join(lines[i+1:last], "\n")
			i = last
		case eq >= 0:
			key, value = line[:eq], line[eq+1:]
		default:
			return nil, ci.Errorf(ci.Invalid, "cannot use outputs: line %d, %.60q, is neither key=value nor key<<EOF", number, line)
		}
		if err := checkKey(key); err != nil {
			return nil, ci.Errorf(ci.Invalid, "cannot use outputs: line %d: %w", number, err)
		}
		if err := checkValue(key, value); err != nil {
			return nil, ci.Errorf(ci.Invalid, "cannot use outputs: line %d: %w", number, err)
		}
		out[key] = value
	}
	return out, nil
}

// find returns the first line from on that is end.
func find(lines []string, from int, end string) (int, bool) {
	for i := from; i < len(lines); i++ {
		if strings.TrimSuffix(lines[i], "\r") == end {
			return i, true
		}
	}
	return 0, false
}

func checkKey(key string) error {
	bad := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-')
	}
	if key == "" || strings.ContainsFunc(key, bad) {
		return fmt.Errorf("output name %.60q is not of letters, digits, '.', '_' and '-'", key)
	}
	return nil
}

func checkValue(key, value string) error {
	if !utf8.ValidString(value) || strings.IndexByte(value, 0) >= 0 {
		return fmt.Errorf("the value of output %q is not UTF-8 text without NUL", key)
	}
	return nil
}
