// Package pki gives nodes their identities: a small certificate authority, the
// certificates it issues, and the mutual TLS 1.3 configurations that check them.
// What a peer may do follows from the URI in its certificate, never from its
// address or from what gossip says.
package pki

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"

	"github.com/slipway-ci/slipway/shared/ci"
)

// Role is what a node is. It stands in its certificate.
type Role string

// The roles.
const (
	RoleAgent       Role = "agent"
	RoleCoordinator Role = "coordinator"
)

// Application protocols of the node port, negotiated by ALPN.
const (
	ProtoRaft = "slipway-raft/1"
	ProtoHTTP = "h2"
)

const (
	uriScheme = "slipway"
	// dnsSuffix ends in a name that no public resolver may ever answer.
	dnsSuffix = ".slipway.internal"
)

// Identity is who a certificate says its owner is:
// slipway://<cluster>/<role>/<node id>.
type Identity struct {
	Cluster string
	Role    Role
	NodeID  string
}

// String returns the identity's URI.
func (i Identity) String() string { return i.uri().String() }

func (i Identity) uri() *url.URL {
	return &url.URL{Scheme: uriScheme, Host: i.Cluster, Path: "/" + string(i.Role) + "/" + i.NodeID}
}

// serverName is the DNS name that every node of the role carries, so that a
// client needs to know neither the node's address nor its id beforehand.
func serverName(cluster string, role Role) string {
	return string(role) + "." + cluster + dnsSuffix
}

func (i Identity) check() error {
	if i.Role != RoleAgent && i.Role != RoleCoordinator {
		return fmt.Errorf("unknown role %q", i.Role)
	}
	for name, s := range map[string]string{"cluster id": i.Cluster, "node id": i.NodeID} {
		if s == "" || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return fmt.Errorf("%s %q is not made of lower-case letters, digits and hyphens", name, s)
		}
	}
	return nil
}

// PeerIdentity returns the identity in the peer's certificate. The handshake
// must have verified the chain, as the configurations of this package do.
func PeerIdentity(cs *tls.ConnectionState) (Identity, error) {
	if cs == nil || len(cs.VerifiedChains) == 0 {
		return Identity{}, ci.Errorf(ci.Unauthenticated, "the peer showed no certificate of this cluster")
	}
	return certIdentity(cs.VerifiedChains[0][0])
}

func certIdentity(cert *x509.Certificate) (Identity, error) {
	var found []Identity
	for _, u := range cert.URIs {
		if u.Scheme != uriScheme {
			continue
		}
		role, node, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
		found = append(found, Identity{Cluster: u.Host, Role: Role(role), NodeID: node})
	}
	if len(found) != 1 {
		return Identity{}, ci.Errorf(ci.Unauthenticated, "certificate %q has %d slipway identities, not one", cert.Subject.CommonName, len(found))
	}
	if err := found[0].check(); err != nil {
		return Identity{}, ci.Errorf(ci.Unauthenticated, "certificate %q: %w", cert.Subject.CommonName, err)
	}
	return found[0], nil
}
