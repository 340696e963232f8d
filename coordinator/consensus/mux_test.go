package consensus

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/pki"
)

func issue(t *testing.T, a *pki.Authority, role pki.Role, node string) *pki.Source {
	t.Helper()
	b, err := a.Issue(role, node, nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	s, err := pki.NewSource(b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestMuxSharesOnePort(t *testing.T) {
	t.Parallel()
	a := authority(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, member, agent := issue(t, a, pki.RoleCoordinator, "c1"), issue(t, a, pki.RoleCoordinator, "c2"), issue(t, a, pki.RoleAgent, "a1")
	m := NewMux(ln, server, logger(t))
	tasks := lifecycle.NewTasks(t.Context())
	defer func() {
		if err := tasks.Stop(); err != nil {
			t.Error(err)
		}
	}()
	tasks.Go("mux", func(ctx context.Context) {
		if err := m.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	web := &http.Server{ReadHeaderTimeout: deadline, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := pki.PeerIdentity(r.TLS)
		if err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(w, r.Proto+" "+who.NodeID)
	})}
	tasks.Go("http", func(context.Context) { _ = web.Serve(m.HTTP()) })
	tasks.Go("raft", func(context.Context) {
		conn, err := m.Raft().Accept()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.Copy(conn, conn)
		_ = conn.Close()
	})

	client := &http.Client{Timeout: deadline, Transport: &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   agent.ClientConfig(pki.RoleCoordinator, "c1", pki.ProtoHTTP),
	}}
	resp, err := client.Get("https://" + m.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if string(body) != "HTTP/2.0 a1" || err != nil {
		t.Errorf("%q, %v", body, err)
	}
	client.CloseIdleConnections()

	address := m.Addr().String()
	dialler := newStream(t.Context(), nil, member)
	if _, err := dialler.Dial(qualified("c9", address), deadline); err == nil {
		t.Error("dialled c9 and took c1 for it")
	}
	conn, err := dialler.Dial(qualified("c1", address), deadline)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Write([]byte("echo"))
	got := make([]byte, 4)
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "echo" {
		t.Errorf("%q, %v", got, err)
	}
	_ = conn.Close()
	_ = web.Close()
}
