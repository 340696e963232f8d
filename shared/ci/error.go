package ci

import (
	"errors"
	"fmt"
)

// Kind says what sort of failure an Error is; it decides the exit code of the
// command line and the code on the wire.
type Kind uint8

// The kinds. Internal is everything that nobody outside can mend.
const (
	Internal        Kind = iota
	Invalid              // the request itself is wrong; repeating it is useless
	NotFound             // no such object, or none that the caller may see
	Conflict             // the object is in a state that forbids the request
	Unauthenticated      // no token, or a token nobody knows
	Forbidden            // a known caller who may not do this
	Exhausted            // a limit or quota is reached; later it may work
	Unavailable          // the server, the leader or a dependency is away; retry
	Canceled             // the caller went away
	Unsupported          // part of the format that this version does not do yet
)

var kindNames = [...]string{
	"internal", "invalid", "not_found", "conflict", "unauthenticated",
	"forbidden", "exhausted", "unavailable", "canceled", "unsupported",
}

// String returns the kind's name as it stands in JSON.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "internal"
}

// Error is a failure meant for a person: its message says what failed, on
// what, and what to do. Field names the offending field of a request, if any.
type Error struct {
	Kind  Kind
	Msg   string
	Field string
	err   error
}

// Error returns the message.
func (e *Error) Error() string { return e.Msg }

// Unwrap returns the cause, if any.
func (e *Error) Unwrap() error { return e.err }

// Errorf makes an Error of kind k. It understands %w.
func Errorf(k Kind, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: k, Msg: err.Error(), err: errors.Unwrap(err)}
}

// FieldErrorf is Errorf for a request whose field is wrong.
func FieldErrorf(k Kind, field, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: k, Field: field, Msg: err.Error(), err: errors.Unwrap(err)}
}

// KindOf returns the kind of the first Error in err's chain, Internal without one.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}
