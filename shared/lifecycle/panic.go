package lifecycle

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// PanicError is a panic turned into an error, with the stack it happened on.
type PanicError struct {
	Value any
	Stack []byte
}

// Error returns the panic's value and its stack.
func (e *PanicError) Error() string {
	return fmt.Sprintf("panic: %v\n\n%s", e.Value, e.Stack)
}

// Unwrap returns the panic's value when that is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

var errGoexit = errors.New("goroutine left by runtime.Goexit instead of returning")

// guard calls run and turns a panic into an error. It does not come back from
// Goexit (which testing's FailNow uses): callers see to that in a deferred call.
func guard(run func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return run()
}
