package api

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"

	"github.com/slipway-ci/slipway/proto/slipway/v1/slipwayv1connect"
	"github.com/slipway-ci/slipway/shared/ci"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

// What curl sends and gets, on HTTP/1.1.
func TestPlainJSON(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	run := b.submit().GetId()
	const get = "/slipway.v1.RunService/GetRun"
	if code, body := b.post(get, "secret-ada", `{"run":"`+run+`"}`); code != 200 || !strings.Contains(body, `"id":"`+run+`"`) {
		t.Errorf("get: %d %s", code, body)
	}
	for name, c := range map[string]struct {
		token, body string
		header      []string
		code        int
		text        string
	}{
		"no token":      {"", `{}`, nil, 401, `"code":"unauthenticated"`},
		"wrong token":   {"x", `{}`, nil, 401, "not known here"},
		"no such run":   {"secret-ada", `{"run":"zz"}`, nil, 404, `"kind":"not_found"`},
		"no JSON":       {"secret-ada", `{`, nil, 400, "invalid_argument"},
		"unknown field": {"secret-ada", `{"rnu":"x"}`, nil, 400, "rnu"},
		"too large":     {"secret-ada", `{"run":"` + strings.Repeat("x", 5<<20) + `"}`, nil, 429, "resource_exhausted"},
		"other site":    {"secret-ada", `{}`, []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, 403, "cross-origin"},
	} {
		code, body := b.post(get, c.token, c.body, c.header...)
		if code != c.code || !strings.Contains(body, c.text) {
			t.Errorf("%s: %d %.300s", name, code, body)
		}
	}
	if code, body := b.post("/slipway.v1.RunService/NoSuch", "secret-ada", `{}`); code != 404 {
		t.Errorf("unknown method: %d %s", code, body)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	get := func(path string) (int, string) {
		t.Helper()
		res, err := b.client.Get(b.url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		data, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(data)
	}
	if code, body := get("/healthz"); code != 200 || body != "ok\n" {
		t.Errorf("healthz: %d %q", code, body)
	}
	if code, _ := get("/readyz"); code != 200 {
		t.Errorf("readyz: %d", code)
	}
	b.readyIs = ci.Errorf(ci.Unavailable, "no leader yet")
	if code, body := get("/readyz"); code != 503 || !strings.Contains(body, "no leader yet") {
		t.Errorf("readyz: %d %q", code, body)
	}
}

// gRPC over h2c, and what is behind the API's URL, for tools.
func TestGRPCAndReflection(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	h2 := &http.Transport{Protocols: new(http.Protocols)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: h2}
	t.Cleanup(client.CloseIdleConnections)
	ctx, info := connect.NewClientContext(t.Context())
	info.RequestHeader().Set("Authorization", "Bearer secret-ada")
	admin := slipwayv1connect.NewAdminServiceClient(client, b.url, connect.WithGRPC())
	if got, err := admin.GetInfo(ctx, &pb.GetInfoRequest{}); err != nil || got.GetCluster() != "c1" {
		t.Errorf("gRPC: %v, %v", got, err)
	}
	for name, header := range map[string]http.Header{"token": {"Authorization": {"Bearer secret-ada"}}, "none": nil} {
		stream := grpcreflect.NewClient(client, b.url, connect.WithGRPC()).NewStream(t.Context(), grpcreflect.WithRequestHeaders(header))
		services, err := stream.ListServices()
		if name == "token" && (err != nil || len(services) != 2) {
			t.Errorf("reflection: %v, %v", services, err)
		}
		if name == "none" && connect.CodeOf(err) != connect.CodeUnauthenticated {
			t.Errorf("reflection without a token: %v", err)
		}
		_, _ = stream.Close()
	}
}
