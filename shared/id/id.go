// Package id makes new identifiers and secrets.
package id

import (
	"crypto/rand"
	"encoding/base64"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

// Length is the length of an identifier in bytes.
const Length = ulid.EncodedSize

var source = struct {
	sync.Mutex
	entropy *ulid.MonotonicEntropy
	last    uint64 // milliseconds
}{entropy: ulid.Monotonic(rand.Reader, 0)}

// New returns a lower-case ULID. Within a process every identifier sorts after
// the ones made before it, also when the wall clock steps back.
func New() string {
	source.Lock()
	defer source.Unlock()
	now := max(ulid.Timestamp(time.Now()), source.last)
	u, err := ulid.New(now, source.entropy)
	if err != nil {
		// The random part of this millisecond is used up: take the next one.
		now++
		u = ulid.MustNew(now, source.entropy)
	}
	source.last = now
	return strings.ToLower(u.String())
}

// Valid reports whether s is a lower-case ULID as New makes them.
func Valid(s string) bool {
	if len(s) != Length || strings.ToLower(s) != s {
		return false
	}
	_, err := ulid.ParseStrict(strings.ToUpper(s))
	return err == nil
}

// Secret returns n random bytes as unpadded base64url. It is for tokens: at
// least 16 bytes, 32 where it lives long.
func Secret(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the process instead
	return base64.RawURLEncoding.EncodeToString(b)
}
