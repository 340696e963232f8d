package wire

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"

	"connectrpc.com/connect"

	"github.com/slipway-ci/slipway/shared/ci"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

// codes pairs every kind with the code it travels as.
var codes = map[ci.Kind]connect.Code{
	ci.Internal:        connect.CodeInternal,
	ci.Invalid:         connect.CodeInvalidArgument,
	ci.NotFound:        connect.CodeNotFound,
	ci.Conflict:        connect.CodeFailedPrecondition,
	ci.Unauthenticated: connect.CodeUnauthenticated,
	ci.Forbidden:       connect.CodePermissionDenied,
	ci.Exhausted:       connect.CodeResourceExhausted,
	ci.Unavailable:     connect.CodeUnavailable,
	ci.Canceled:        connect.CodeCanceled,
	ci.Unsupported:     connect.CodeUnimplemented,
}

// kindOfCode is for errors without a detail: another server's, or the
// library's own. Codes that are not here are Internal.
var kindOfCode = map[connect.Code]ci.Kind{
	connect.CodeInvalidArgument:    ci.Invalid,
	connect.CodeOutOfRange:         ci.Invalid,
	connect.CodeNotFound:           ci.NotFound,
	connect.CodeFailedPrecondition: ci.Conflict,
	connect.CodeAlreadyExists:      ci.Conflict,
	connect.CodeAborted:            ci.Conflict,
	connect.CodeUnauthenticated:    ci.Unauthenticated,
	connect.CodePermissionDenied:   ci.Forbidden,
	connect.CodeResourceExhausted:  ci.Exhausted,
	connect.CodeUnavailable:        ci.Unavailable,
	connect.CodeDeadlineExceeded:   ci.Unavailable,
	connect.CodeCanceled:           ci.Canceled,
	connect.CodeUnimplemented:      ci.Unsupported,
}

// problemsError is an error with the faults of a workflow file.
type problemsError struct {
	error
	problems []*pb.Problem
}

func (e *problemsError) Unwrap() error { return e.error }

// WithProblems adds the faults of a workflow file to an error; they travel
// with it. A nil error stays nil.
func WithProblems(err error, problems []*pb.Problem) error {
	if err == nil || len(problems) == 0 {
		return err
	}
	return &problemsError{err, problems}
}

// Problems returns the faults of a workflow file that came with an error.
func Problems(err error) []*pb.Problem {
	var e *problemsError
	if errors.As(err, &e) {
		return e.problems
	}
	return nil
}

// ToConnect turns an error into one for the wire, with kind, field and
// problems in an ErrorDetail. Errors of kind Internal come out with their text:
// a server's edge hides it first, see ServerErrors.
func ToConnect(err error) *connect.Error {
	if done := (*connect.Error)(nil); errors.As(err, &done) {
		return done
	}
	kind, field := ci.KindOf(err), ""
	if e := (*ci.Error)(nil); errors.As(err, &e) {
		field = e.Field
	} else if errors.Is(err, context.Canceled) {
		kind = ci.Canceled
	} else if errors.Is(err, context.DeadlineExceeded) {
		kind = ci.Unavailable
	}
	out := connect.NewError(codes[kind], err)
	detail, derr := connect.NewErrorDetail(&pb.ErrorDetail{Kind: kind.String(), Field: field, Problems: Problems(err)})
	if derr == nil {
		out.AddDetail(detail)
	}
	return out
}

// broken reports whether the connection to the server broke, before its answer or
// within it. The trap: the library takes a reset for a caller who went away, and
// half an answer for an unknown error.
func broken(err error) bool {
	if errors.Is(err, context.Canceled) {
		return false // by the caller's own wish
	}
	var op *net.OpError
	return errors.As(err, &op) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// FromConnect is the reverse of ToConnect: callers get a ci.Error with kind and
// field, and Problems finds the faults. An error that did not come over the
// wire is returned as it is; nil stays nil.
func FromConnect(err error) error {
	var ce *connect.Error
	if err == nil || !errors.As(err, &ce) {
		return err
	}
	out := &ci.Error{Kind: kindOfCode[ce.Code()], Msg: ce.Message()}
	if !connect.IsWireError(ce) && broken(err) {
		out.Kind = ci.Unavailable
	}
	if out.Msg == "" {
		out.Msg = ce.Code().String()
	}
	for _, d := range ce.Details() {
		v, verr := d.Value()
		detail, ok := v.(*pb.ErrorDetail)
		if verr != nil || !ok {
			continue
		}
		if k, known := ci.ParseKind(detail.GetKind()); known {
			out.Kind = k
		}
		out.Field = detail.GetField()
		return WithProblems(out, detail.GetProblems())
	}
	return out
}
