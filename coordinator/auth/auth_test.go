package auth

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/slipway-ci/slipway/proto/slipway/v1/slipwayv1connect"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/needs"
	"github.com/slipway-ci/slipway/shared/wire"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

func TestMain(m *testing.M) { needs.NoLeaks(m) }

// The services that are served on the API listener; AgentService is on the node
// port, where the certificate speaks.
func apiServices() []protoreflect.ServiceDescriptor {
	var out []protoreflect.ServiceDescriptor
	services := pb.File_slipway_v1_api_proto.Services()
	for i := range services.Len() {
		out = append(out, services.Get(i))
	}
	return out
}

func TestEveryMethodHasAnEntry(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, s := range apiServices() {
		for i := range s.Methods().Len() {
			name := "/" + string(s.FullName()) + "/" + string(s.Methods().Get(i).Name())
			seen[name] = true
			need, ok := methods[name]
			if !ok {
				t.Errorf("%s has no entry in the table: say what it asks for", name)
			}
			if roleFor[need] == "" {
				t.Errorf("%s asks for %q, which no role has", name, need)
			}
		}
	}
	for name := range methods {
		if !seen[name] && !strings.HasPrefix(name, "/grpc.reflection.") {
			t.Errorf("%s is in the table, but there is no such method", name)
		}
	}
	if len(seen) < 17 {
		t.Errorf("only %d methods found", len(seen))
	}
}

func TestCan(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		role          ci.Role
		read, operate bool
	}{
		{ci.RoleViewer, true, false}, {ci.RoleMember, true, true}, {ci.RoleAdmin, true, true}, {"", false, false}, {"root", false, false},
	} {
		p := Principal{Role: c.role}
		if p.Can(Read) != c.read || p.Can(Operate) != c.operate || p.Can("own") {
			t.Errorf("role %q: read %t, operate %t", c.role, p.Can(Read), p.Can(Operate))
		}
	}
}

type whoami struct {
	slipwayv1connect.UnimplementedRunServiceHandler
	slipwayv1connect.UnimplementedAgentServiceHandler
}

func (whoami) GetRun(ctx context.Context, _ *pb.GetRunRequest) (*pb.GetRunResponse, error) {
	p := From(ctx)
	return &pb.GetRunResponse{Run: &pb.Run{CreatedBy: p.Actor.String(), Tenant: string(p.Tenant)}}, nil
}

func (whoami) CancelRun(context.Context, *pb.CancelRunRequest) (*pb.CancelRunResponse, error) {
	return &pb.CancelRunResponse{}, nil
}

func serve(t *testing.T) *httptest.Server {
	t.Helper()
	tokens := map[string]*ci.Token{
		Hash("viewer-secret"): {User: "vera", Role: ci.RoleViewer, Tenant: "shop"},
		Hash("member-secret"): {User: "mike", Role: ci.RoleMember},
	}
	guard := New(Config{
		Token: func(h string) *ci.Token { return tokens[h] },
		Hint:  "it lies in /data/token",
		Log:   slog.New(slog.DiscardHandler),
	})
	opts := append(wire.HandlerOptions(slog.New(slog.DiscardHandler)), connect.WithInterceptors(guard))
	mux := http.NewServeMux()
	mux.Handle(slipwayv1connect.NewRunServiceHandler(whoami{}, opts...))
	mux.Handle(slipwayv1connect.NewAgentServiceHandler(whoami{}, opts...))
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	t.Cleanup(srv.Client().CloseIdleConnections)
	return srv
}

func withHeader(value string) connect.Interceptor {
	return connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			if value != "" {
				req.Header().Set("Authorization", value)
			}
			return next(ctx, req)
		}
	})
}

func TestInterceptor(t *testing.T) {
	t.Parallel()
	srv := serve(t)
	client := func(header string) slipwayv1connect.RunServiceClient {
		return slipwayv1connect.NewRunServiceClient(srv.Client(), srv.URL,
			connect.WithInterceptors(wire.ClientErrors(), withHeader(header)))
	}
	res, err := client("bearer viewer-secret").GetRun(t.Context(), &pb.GetRunRequest{})
	if err != nil || res.GetRun().GetCreatedBy() != "token:vera" || res.GetRun().GetTenant() != "shop" {
		t.Errorf("good token: %v, %v", res, err)
	}
	for _, c := range []struct {
		header string
		kind   ci.Kind
		text   string
	}{
		{"", ci.Unauthenticated, "the call has no token"},
		{"Bearer", ci.Unauthenticated, "not of the form Bearer TOKEN"},
		{"Basic dmVyYQ==", ci.Unauthenticated, "not of the form Bearer TOKEN"},
		{"Bearer wrong", ci.Unauthenticated, "the token is not known here"},
		{"Bearer viewer-secret", ci.Forbidden, "needs the role member, and the token has viewer"},
	} {
		_, err := client(c.header).CancelRun(t.Context(), &pb.CancelRunRequest{})
		if ci.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.text) {
			t.Errorf("header %q: got %v", c.header, err)
		}
		if c.kind == ci.Unauthenticated && !strings.Contains(err.Error(), "/data/token") {
			t.Errorf("header %q: %v does not say where the token lies", c.header, err)
		}
	}
	if _, err := client("Bearer member-secret").CancelRun(t.Context(), &pb.CancelRunRequest{}); err != nil {
		t.Errorf("member: %v", err)
	}
}

// A method outside the table is refused whoever calls, also as a stream.
func TestUnknownMethodRefused(t *testing.T) {
	t.Parallel()
	srv := serve(t)
	for secret, kind := range map[string]ci.Kind{"member-secret": ci.Forbidden, "wrong": ci.Unauthenticated} {
		client := slipwayv1connect.NewAgentServiceClient(srv.Client(), srv.URL, connect.WithInterceptors(wire.ClientErrors(), withHeader("Bearer "+secret)))
		if _, err := client.Accept(t.Context(), &pb.AcceptRequest{}); ci.KindOf(err) != kind {
			t.Errorf("%s: got %v", secret, err)
		}
		ctx, info := connect.NewClientContext(t.Context())
		info.RequestHeader().Set("Authorization", "Bearer "+secret)
		stream, err := client.Assignments(ctx, &pb.AssignmentsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for stream.Receive() {
			t.Error("a refused stream gave a message")
		}
		if ci.KindOf(stream.Err()) != kind {
			t.Errorf("%s, stream: got %v", secret, stream.Err())
		}
		_ = stream.Close()
	}
}

// While the state is not whole nobody's token is judged, good or bad.
func TestNotReady(t *testing.T) {
	t.Parallel()
	starting := ci.Errorf(ci.Unavailable, "the coordinator is starting")
	guard := New(Config{
		Ready: func() error { return starting },
		Token: func(string) *ci.Token { t.Error("a token was looked up"); return nil },
		Log:   slog.New(slog.DiscardHandler),
	})
	if _, err := guard.check(t.Context(), "/slipway.v1.RunService/GetRun", http.Header{"Authorization": {"Bearer x"}}); ci.KindOf(err) != ci.Unavailable {
		t.Errorf("got %v", err)
	}
}
