package pki

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"sync/atomic"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
)

// Source holds what a node shows and whom it trusts at the moment. Configurations
// made from it follow Replace from the next handshake on.
type Source struct {
	current atomic.Pointer[material]
}

type material struct {
	who   Identity
	pair  tls.Certificate
	roots *x509.CertPool
}

// NewSource returns a source that holds b.
func NewSource(b Bundle) (*Source, error) {
	s := &Source{}
	return s, s.Replace(b)
}

// OpenSource returns a source that holds the bundle in the file.
func OpenSource(path string) (*Source, error) {
	b, err := LoadBundle(path)
	if err != nil {
		return nil, err
	}
	return NewSource(b)
}

// Replace puts b in place of what the source holds: pair and roots together.
func (s *Source) Replace(b Bundle) error {
	certs, key, err := decode(b.Pair)
	if err != nil {
		return ci.Errorf(ci.Invalid, "cannot use the node's certificate: %w", err)
	}
	m := &material{roots: x509.NewCertPool(), pair: tls.Certificate{PrivateKey: key, Leaf: certs[0]}}
	for _, c := range certs {
		m.pair.Certificate = append(m.pair.Certificate, c.Raw)
	}
	if !m.roots.AppendCertsFromPEM(b.Roots) {
		return ci.Errorf(ci.Invalid, "cannot use the node's certificate: no authority beside it")
	}
	if m.who, err = certIdentity(certs[0]); err != nil {
		return err
	}
	if old := s.current.Load(); old != nil && old.who != m.who {
		return ci.Errorf(ci.Invalid, "cannot use the certificate of %s: this node is %s", m.who, old.who)
	}
	s.current.Store(m)
	return nil
}

// Identity returns who this node is.
func (s *Source) Identity() Identity { return s.current.Load().who }

// NotAfter returns when the node's certificate ends.
func (s *Source) NotAfter() time.Time { return s.current.Load().pair.Leaf.NotAfter }

// Rule says which roles may speak a protocol on a listener.
type Rule struct {
	Proto string
	Roles []Role
}

// NodeRules are those of a coordinator's node port.
func NodeRules() []Rule {
	return []Rule{
		{Proto: ProtoRaft, Roles: []Role{RoleCoordinator}},
		{Proto: ProtoHTTP, Roles: []Role{RoleAgent, RoleCoordinator}},
	}
}

// ServerConfig returns the configuration of a listener: TLS 1.3, a certificate
// of this cluster required, one of the protocols in the rules negotiated, and
// the role checked against that protocol's rule. A client that is refused
// learns of it at its first read.
func (s *Source) ServerConfig(rules ...Rule) *tls.Config {
	protos := make([]string, 0, len(rules))
	for _, r := range rules {
		protos = append(protos, r.Proto)
	}
	forNow := func(*tls.ClientHelloInfo) (*tls.Config, error) {
		m := s.current.Load()
		return &tls.Config{
			MinVersion:             tls.VersionTLS13,
			NextProtos:             protos,
			Certificates:           []tls.Certificate{m.pair},
			ClientAuth:             tls.RequireAndVerifyClientCert,
			ClientCAs:              m.roots,
			SessionTicketsDisabled: true, // each connection shows a certificate that is still good
			VerifyConnection: func(cs tls.ConnectionState) error {
				i := slices.IndexFunc(rules, func(r Rule) bool { return r.Proto == cs.NegotiatedProtocol })
				if i < 0 {
					return ci.Errorf(ci.Forbidden, "the client speaks none of %q", protos)
				}
				peer, err := m.peer(&cs)
				if err != nil {
					return err
				}
				if !slices.Contains(rules[i].Roles, peer.Role) {
					return ci.Errorf(ci.Forbidden, "%s may not speak %s", peer, cs.NegotiatedProtocol)
				}
				return nil
			},
		}, nil
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: protos, GetConfigForClient: forNow}
}

// ClientConfig returns the configuration for dialling a node of the given role,
// and the very node when nodeID is not empty. The address dialled plays no
// part. Ask for one per dial: the roots are those of the moment of the call.
func (s *Source) ClientConfig(role Role, nodeID string, proto string) *tls.Config {
	m := s.current.Load()
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{proto},
		ServerName: serverName(m.who.Cluster, role),
		RootCAs:    m.roots,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &s.current.Load().pair, nil
		},
		VerifyConnection: func(cs tls.ConnectionState) error {
			peer, err := m.peer(&cs)
			switch {
			case err != nil:
				return err
			case peer.Role != role:
				return ci.Errorf(ci.Unauthenticated, "dialled a %s but found %s", role, peer)
			case nodeID != "" && peer.NodeID != nodeID:
				return ci.Errorf(ci.Unauthenticated, "dialled node %s but found %s", nodeID, peer)
			case cs.NegotiatedProtocol != proto:
				return ci.Errorf(ci.Unavailable, "%s does not speak %s", peer, proto)
			}
			return nil
		},
	}
}

// peer returns the peer's identity if it is of this node's own cluster.
func (m *material) peer(cs *tls.ConnectionState) (Identity, error) {
	peer, err := PeerIdentity(cs)
	if err != nil {
		return Identity{}, err
	}
	if peer.Cluster != m.who.Cluster {
		return Identity{}, ci.Errorf(ci.Unauthenticated, "%s is of another cluster than %s", peer, m.who)
	}
	return peer, nil
}
