package expr

import (
	"fmt"
	"strings"

	"github.com/slipway-ci/slipway/shared/ci"
)

// The files that hash() names are only known to the agent, so a rendered cache
// key holds {{hash:GLOB,GLOB}} in their place. Globs are escaped, as they may
// hold commas and braces themselves.
const hashOpen = "{{hash:"

var (
	escapeGlob   = strings.NewReplacer("%", "%25", ",", "%2C", "{", "%7B", "}", "%7D")
	unescapeGlob = strings.NewReplacer("%25", "%", "%2C", ",", "%7B", "{", "%7D", "}")
)

func hashToken(args ...any) (any, error) {
	globs := make([]string, len(args))
	for i, a := range args {
		s, ok := a.(string)
		if !ok {
			return nil, fmt.Errorf("hash takes file patterns")
		}
		globs[i] = escapeGlob.Replace(s)
	}
	return hashOpen + strings.Join(globs, ",") + closing, nil
}

// ResolveHashes replaces every hash token of a rendered cache key by what hash
// returns for its globs. hash must refuse globs that leave the workspace: the
// text around a token may come from a parameter.
func ResolveHashes(s string, hash func(globs []string) (string, error)) (string, error) {
	var b strings.Builder
	for {
		i := strings.Index(s, hashOpen)
		if i < 0 {
			b.WriteString(s)
			return b.String(), nil
		}
		b.WriteString(s[:i])
		rest := s[i+len(hashOpen):]
		n := strings.Index(rest, closing)
		if n < 0 {
			return "", ci.Errorf(ci.Invalid, "cannot resolve cache key: %s%s has no end", hashOpen, rest)
		}
		globs := strings.Split(rest[:n], ",")
		for j, g := range globs {
			globs[j] = unescapeGlob.Replace(g)
		}
		sum, err := hash(globs)
		if err != nil {
			return "", fmt.Errorf("cannot hash %s: %w", strings.Join(globs, ", "), err)
		}
		b.WriteString(sum)
		s = rest[n+len(closing):]
	}
}
