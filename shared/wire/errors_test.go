package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"

	"github.com/slipway-ci/slipway/proto/slipway/v1/slipwayv1connect"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/needs"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

func TestMain(m *testing.M) { needs.NoLeaks(m) }

type failing struct {
	slipwayv1connect.UnimplementedAgentServiceHandler
	err error
}

func (f *failing) Accept(context.Context, *pb.AcceptRequest) (*pb.AcceptResponse, error) {
	if f.err == nil {
		panic("boom")
	}
	return nil, f.err
}

func (f *failing) Assignments(_ context.Context, _ *pb.AssignmentsRequest, s *connect.ServerStream[pb.AssignmentsResponse]) error {
	if err := s.Send(&pb.AssignmentsResponse{Full: true}); err != nil {
		return err
	}
	return f.err
}

// locked is a buffer that server goroutines may write to.
type locked struct {
	sync.Mutex
	bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	return l.Buffer.Write(p)
}

func serve(t *testing.T, err error) (slipwayv1connect.AgentServiceClient, *locked) {
	t.Helper()
	logged := &locked{}
	mux := http.NewServeMux()
	mux.Handle(slipwayv1connect.NewAgentServiceHandler(&failing{err: err},
		HandlerOptions(slog.New(slog.NewTextHandler(logged, nil)))...))
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	t.Cleanup(srv.Client().CloseIdleConnections)
	return slipwayv1connect.NewAgentServiceClient(srv.Client(), srv.URL, connect.WithInterceptors(ClientErrors())), logged
}

func TestErrorsKeepKindAndField(t *testing.T) {
	t.Parallel()
	for kind := ci.Invalid; kind <= ci.Unsupported; kind++ {
		sent := WithProblems(ci.FieldErrorf(kind, "sha", "cannot do it: %w", errors.New("why")),
			[]*pb.Problem{{Line: 3, Message: "odd"}})
		client, _ := serve(t, fmt.Errorf("outer: %w", sent))
		_, err := client.Accept(t.Context(), &pb.AcceptRequest{})
		check := func(err error) {
			t.Helper()
			var e *ci.Error
			if !errors.As(err, &e) || e.Kind != kind || e.Field != "sha" || e.Msg != "outer: cannot do it: why" {
				t.Errorf("%s: got %#v", kind, err)
			}
			if p := Problems(err); len(p) != 1 || p[0].GetLine() != 3 {
				t.Errorf("%s: problems %v", kind, p)
			}
		}
		check(err)
		stream, err := client.Assignments(t.Context(), &pb.AssignmentsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for stream.Receive() {
		}
		check(stream.Err())
		_ = stream.Close()
	}
}

func TestInternalErrorsStayInside(t *testing.T) {
	t.Parallel()
	for name, sent := range map[string]error{"plain": errors.New("the secret path"), "panic": nil} {
		client, logged := serve(t, sent)
		_, err := client.Accept(t.Context(), &pb.AcceptRequest{})
		if ci.KindOf(err) != ci.Internal || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "boom") {
			t.Errorf("%s: got %v", name, err)
		}
		logged.Lock()
		text := logged.String()
		logged.Unlock()
		n := strings.Fields(err.Error())[2]
		if !strings.Contains(text, strings.TrimSuffix(n, ":")) || !strings.Contains(text, "secret") && sent != nil {
			t.Errorf("%s: error %v is not in the log %q", name, err, text)
		}
	}
}

func TestErrorsWithoutDetail(t *testing.T) {
	t.Parallel()
	for code, want := range map[connect.Code]ci.Kind{
		connect.CodeUnavailable: ci.Unavailable, connect.CodeDeadlineExceeded: ci.Unavailable,
		connect.CodeUnknown: ci.Internal, connect.CodeUnauthenticated: ci.Unauthenticated,
	} {
		if got := ci.KindOf(FromConnect(connect.NewError(code, errors.New("x")))); got != want {
			t.Errorf("%s: got %s, want %s", code, got, want)
		}
	}
	if FromConnect(nil) != nil || WithProblems(nil, []*pb.Problem{{}}) != nil {
		t.Error("nil did not stay nil")
	}
	local := errors.New("local")
	if !errors.Is(FromConnect(local), local) {
		t.Error("a local error was changed")
	}
	if ToConnect(context.Canceled).Code() != connect.CodeCanceled || ToConnect(context.DeadlineExceeded).Code() != connect.CodeUnavailable {
		t.Error("context errors are not internal")
	}
	dead := slipwayv1connect.NewAgentServiceClient(http.DefaultClient, "http://127.0.0.1:1", connect.WithInterceptors(ClientErrors()))
	if _, err := dead.Accept(t.Context(), &pb.AcceptRequest{}); ci.KindOf(err) != ci.Unavailable {
		t.Errorf("no server: got %v", err)
	}
}
