package pki

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
	"golang.org/x/sync/errgroup"
)

func authority(t *testing.T) *Authority {
	t.Helper()
	a, err := OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func bundle(t *testing.T, a *Authority, role Role, node string) Bundle {
	t.Helper()
	b, err := a.Issue(role, node, []string{"127.0.0.1", "localhost"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func source(t *testing.T, a *Authority, role Role, node string) *Source {
	t.Helper()
	s, err := NewSource(bundle(t, a, role, node))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// handshake runs both ends over loopback and returns their errors and what the
// server learned of the client.
func handshake(t *testing.T, server, client *tls.Config) (peer Identity, serverErr, clientErr error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	var g errgroup.Group
	g.Go(func() error {
		raw, err := ln.Accept()
		if err != nil {
			return err
		}
		defer func() { _ = raw.Close() }()
		_ = raw.SetDeadline(time.Now().Add(30 * time.Second))
		conn := tls.Server(raw, server)
		if serverErr = conn.Handshake(); serverErr != nil {
			return nil
		}
		cs := conn.ConnectionState()
		peer, serverErr = PeerIdentity(&cs)
		_, err = conn.Write([]byte("x"))
		return err
	})
	raw, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.SetDeadline(time.Now().Add(30 * time.Second))
	conn := tls.Client(raw, client)
	if clientErr = conn.Handshake(); clientErr == nil {
		// In TLS 1.3 the client learns only now that the server refused it.
		_, clientErr = conn.Read(make([]byte, 1))
	}
	_ = raw.Close()
	if err := g.Wait(); err != nil && clientErr == nil {
		t.Fatal(err)
	}
	return peer, serverErr, clientErr
}

func TestHandshake(t *testing.T) {
	t.Parallel()
	a, other := authority(t), authority(t)
	c1 := source(t, a, RoleCoordinator, "c1")
	c2 := source(t, a, RoleCoordinator, "c2")
	agent := source(t, a, RoleAgent, "a1")
	stranger := source(t, other, RoleCoordinator, "c2")
	server := c1.ServerConfig(NodeRules()...)

	strip := func(c *tls.Config) *tls.Config { c.GetClientCertificate = nil; return c }
	alter := func(c *tls.Config, f func(*tls.Config)) *tls.Config { f(c); return c }
	for _, c := range []struct {
		name       string
		server     *tls.Config
		client     *tls.Config
		wantServer string // part of the error, empty for success
		wantClient string // likewise; "*" for any
	}{
		{"coordinator speaks raft", server, c2.ClientConfig(RoleCoordinator, "c1", ProtoRaft), "", ""},
		{"agent speaks h2", server, agent.ClientConfig(RoleCoordinator, "", ProtoHTTP), "", ""},
		{"agent may not speak raft", server, agent.ClientConfig(RoleCoordinator, "", ProtoRaft), "may not speak slipway-raft/1", "*"},
		{"no protocol", server, alter(c2.ClientConfig(RoleCoordinator, "", ProtoHTTP), func(c *tls.Config) { c.NextProtos = nil; c.VerifyConnection = nil }), "speaks none of", "*"},
		{"no certificate", server, strip(agent.ClientConfig(RoleCoordinator, "", ProtoHTTP)), "client didn't provide a certificate", "*"},
		{"client of another cluster", server, alter(stranger.ClientConfig(RoleCoordinator, "", ProtoHTTP), func(c *tls.Config) { c.InsecureSkipVerify = true; c.VerifyConnection = nil }), "unknown authority", "*"},
		{"server of another cluster", stranger.ServerConfig(NodeRules()...), c2.ClientConfig(RoleCoordinator, "", ProtoRaft), "bad certificate", "*"},
		{"agent poses as coordinator", agent.ServerConfig(NodeRules()...), c2.ClientConfig(RoleCoordinator, "", ProtoRaft), "bad certificate", "coordinator." + a.Cluster()},
		{"another node than dialled", server, c2.ClientConfig(RoleCoordinator, "c9", ProtoRaft), "bad certificate", "dialled node c9"},
		{"old TLS", server, alter(c2.ClientConfig(RoleCoordinator, "", ProtoRaft), func(c *tls.Config) { c.MinVersion = tls.VersionTLS12; c.MaxVersion = tls.VersionTLS12 }), "unsupported versions", "*"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, serverErr, clientErr := handshake(t, c.server, c.client)
			check(t, "server", serverErr, c.wantServer)
			check(t, "client", clientErr, c.wantClient)
		})
	}
}

func check(t *testing.T, side string, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: %v", side, err)
	case want == "*" && err == nil:
		t.Errorf("%s: no error", side)
	case want != "" && want != "*" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("%s: %v, want something with %q", side, err, want)
	}
}

func TestPeerIdentity(t *testing.T) {
	t.Parallel()
	a := authority(t)
	c1, agent := source(t, a, RoleCoordinator, "c1"), source(t, a, RoleAgent, "a1")
	peer, err, _ := handshake(t, c1.ServerConfig(NodeRules()...), agent.ClientConfig(RoleCoordinator, "", ProtoHTTP))
	if want := (Identity{a.Cluster(), RoleAgent, "a1"}); err != nil || peer != want {
		t.Errorf("peer = %v, %v, want %v", peer, err, want)
	}
	if _, err := PeerIdentity(&tls.ConnectionState{}); ci.KindOf(err) != ci.Unauthenticated {
		t.Errorf("unverified connection: %v", err)
	}
}

func TestAuthorityIsKept(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "pki")
	first, err := OpenAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := OpenAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	if first.Cluster() != again.Cluster() || string(first.CertPEM()) != string(again.CertPEM()) {
		t.Error("a second start made another authority")
	}
	path := filepath.Join(dir, authorityFile)
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	// Certificates of before the restart are still good after it.
	_, serverErr, clientErr := handshake(t, source(t, again, RoleCoordinator, "c1").ServerConfig(NodeRules()...),
		source(t, first, RoleAgent, "a1").ClientConfig(RoleCoordinator, "c1", ProtoHTTP))
	check(t, "server", serverErr, "")
	check(t, "client", clientErr, "")

	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenAuthority(dir); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that all can read: %v", err)
	}
}

func TestAuthorityDamaged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, authorityFile), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenAuthority(dir); err == nil {
		t.Error("a damaged authority was taken, or replaced")
	}
}

func TestIssueRefuses(t *testing.T) {
	t.Parallel()
	a := authority(t)
	for name, f := range map[string]func() error{
		"role":   func() error { _, err := a.Issue("root", "n1", nil, time.Hour); return err },
		"no id":  func() error { _, err := a.Issue(RoleAgent, "", nil, time.Hour); return err },
		"bad id": func() error { _, err := a.Issue(RoleAgent, "a/../coordinator/x", nil, time.Hour); return err },
		"ttl":    func() error { _, err := a.Issue(RoleAgent, "a1", nil, 0); return err },
	} {
		if err := f(); ci.KindOf(err) != ci.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBundleIsKeptAndReplaced(t *testing.T) {
	t.Parallel()
	a := authority(t)
	path := filepath.Join(t.TempDir(), "node", "node.pem")
	if err := bundle(t, a, RoleAgent, "a1").Save(path); err != nil {
		t.Fatal(err)
	}
	s, err := OpenSource(path)
	if err != nil {
		t.Fatal(err)
	}
	server := source(t, a, RoleCoordinator, "c1").ServerConfig(NodeRules()...)
	client := s.ClientConfig(RoleCoordinator, "", ProtoHTTP)
	_, _, err = handshake(t, server, client)
	check(t, "before", err, "")

	longer, err := a.Issue(RoleAgent, "a1", nil, 2*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Replace(longer); err != nil {
		t.Fatal(err)
	}
	if left := time.Until(s.NotAfter()); left < 90*time.Minute {
		t.Errorf("the old certificate still stands: %s left", left)
	}
	_, _, err = handshake(t, server, client)
	check(t, "after", err, "")

	if err := s.Replace(bundle(t, a, RoleCoordinator, "a1")); ci.KindOf(err) != ci.Invalid {
		t.Errorf("another identity was taken: %v", err)
	}
	mixed := bundle(t, a, RoleAgent, "a1")
	mixed.Roots = nil
	if err := s.Replace(mixed); ci.KindOf(err) != ci.Invalid {
		t.Errorf("no roots: %v", err)
	}
}
