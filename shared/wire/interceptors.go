package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"

	"connectrpc.com/connect"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/id"
)

// ServerErrors returns an interceptor that lets handlers answer with plain
// errors. It must be the outermost. What only the operators can mend is logged
// under an id, and the caller gets the id.
func ServerErrors(log *slog.Logger) connect.Interceptor { return &serverErrors{log} }

type serverErrors struct{ log *slog.Logger }

func (s *serverErrors) out(ctx context.Context, method string, err error) error {
	if err == nil {
		return nil
	}
	var ce *connect.Error
	if !errors.As(err, &ce) {
		if ce = ToConnect(err); ce.Code() == connect.CodeInternal {
			n := id.New()
			s.log.ErrorContext(ctx, "a call failed", "method", method, "error_id", n, "error", err)
			return ToConnect(ci.Errorf(ci.Internal, "internal error %s: the coordinator's log has the details", n))
		}
	}
	return ce
}

func (s *serverErrors) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		res, err := next(ctx, req)
		if err != nil {
			return nil, s.out(ctx, req.Spec().Procedure, err)
		}
		return res, nil
	}
}

func (s *serverErrors) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (s *serverErrors) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		return s.out(ctx, conn.Spec().Procedure, next(ctx, conn))
	}
}

// HandlerOptions are what every handler of ours is made with: plain errors, and
// panics that end the call alone.
func HandlerOptions(log *slog.Logger) []connect.HandlerOption {
	return []connect.HandlerOption{
		connect.WithInterceptors(ServerErrors(log)),
		connect.WithRecover(func(ctx context.Context, spec connect.Spec, _ http.Header, v any) error {
			n := id.New()
			log.ErrorContext(ctx, "a handler panicked", "method", spec.Procedure, "error_id", n,
				"panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			return ToConnect(ci.Errorf(ci.Internal, "internal error %s: the coordinator's log has the details", n))
		}),
	}
}

// ClientErrors returns an interceptor that gives callers ci.Errors.
func ClientErrors() connect.Interceptor { return clientErrors{} }

type clientErrors struct{}

func (clientErrors) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		res, err := next(ctx, req)
		return res, FromConnect(err)
	}
}

func (clientErrors) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

func (clientErrors) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		return clientConn{next(ctx, spec)}
	}
}

type clientConn struct{ connect.StreamingClientConn }

func (c clientConn) Receive(msg any) error { return c.turn(c.StreamingClientConn.Receive(msg)) }

func (c clientConn) Send(msg any) error { return c.turn(c.StreamingClientConn.Send(msg)) }

// turn leaves the end of the stream alone: the library looks for it.
func (clientConn) turn(err error) error {
	if errors.Is(err, io.EOF) {
		return err
	}
	return FromConnect(err)
}
