package wire

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"

	"connectrpc.com/connect"

	"github.com/slipway-ci/slipway/proto/slipway/v1/slipwayv1connect"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/lifecycle"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

// breaker is a server that answers each call with text and then resets the
// connection, or just closes it.
func breaker(t *testing.T, text string, reset bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tasks := lifecycle.NewTasks(t.Context())
	tasks.Go("breaker", func(context.Context) {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 64<<10))
			_, _ = c.Write([]byte(text))
			if tcp, ok := c.(*net.TCPConn); ok && reset {
				_ = tcp.SetLinger(0)
			}
			_ = c.Close()
		}
	})
	t.Cleanup(func() { _ = l.Close(); _ = tasks.Stop() })
	return "http://" + l.Addr().String()
}

// A server that dies in the middle of a call is away, so that the caller tries
// again, whatever the library makes of it.
func TestBrokenConnections(t *testing.T) {
	t.Parallel()
	half := "HTTP/1.1 200 OK\r\nContent-Type: application/proto\r\nContent-Length: 100\r\n\r\nhalf"
	for name, c := range map[string]struct {
		text  string
		reset bool
	}{
		"reset": {"", true}, "closed": {"", false}, "half an answer": {half, false}, "half an answer, reset": {half, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			client := slipwayv1connect.NewAgentServiceClient(&http.Client{Transport: transport}, breaker(t, c.text, c.reset), connect.WithInterceptors(ClientErrors()))
			if _, err := client.Accept(t.Context(), &pb.AcceptRequest{}); ci.KindOf(err) != ci.Unavailable {
				t.Errorf("got %s: %v", ci.KindOf(err), err)
			}
			gone, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := client.Accept(gone, &pb.AcceptRequest{}); ci.KindOf(err) != ci.Canceled && !errors.Is(err, context.Canceled) {
				t.Errorf("a caller who went away gets %s: %v", ci.KindOf(err), err)
			}
		})
	}
}
