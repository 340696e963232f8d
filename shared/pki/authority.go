package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/id"
)

const (
	authorityFile = "ca.pem"
	authorityTTL  = 10 * 365 * 24 * time.Hour
	// backdate lets hosts whose clocks differ a little accept a fresh certificate.
	backdate = 5 * time.Minute
)

// Authority is the cluster's certificate authority. Its cluster id is made
// together with its key and is the one source of that id.
type Authority struct {
	cluster string
	cert    *x509.Certificate
	key     *ecdsa.PrivateKey
	pem     []byte // the certificate alone
}

// OpenAuthority loads the authority kept in dir, and makes one at first start.
// Key and certificate are one file, so that a crash never leaves half of a pair.
func OpenAuthority(dir string) (*Authority, error) {
	path := filepath.Join(dir, authorityFile)
	a, err := loadAuthority(path)
	if errors.Is(err, fs.ErrNotExist) {
		return createAuthority(path)
	}
	return a, err
}

// Cluster returns the id of the cluster that the authority speaks for.
func (a *Authority) Cluster() string { return a.cluster }

// CertPEM returns the authority's certificate, which is what nodes trust.
func (a *Authority) CertPEM() []byte { return a.pem }

func loadAuthority(path string) (*Authority, error) {
	data, err := readPrivate(path)
	if err != nil {
		return nil, fmt.Errorf("cannot load the certificate authority: %w", err)
	}
	certs, key, err := decode(data)
	if err != nil {
		return nil, ci.Errorf(ci.Internal, "cannot load the certificate authority %s: %w", path, err)
	}
	if len(certs) != 1 || !certs[0].IsCA || len(certs[0].URIs) != 1 {
		return nil, ci.Errorf(ci.Internal, "%s does not hold a certificate authority of slipway", path)
	}
	return &Authority{cluster: certs[0].URIs[0].Host, cert: certs[0], key: key, pem: encodeCert(certs[0].Raw)}, nil
}

func createAuthority(path string) (*Authority, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the folder of the certificate authority: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("cannot make the key of the certificate authority: %w", err)
	}
	cluster := id.New()
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{Organization: []string{"slipway"}, CommonName: "slipway cluster " + cluster},
		URIs:                  []*url.URL{{Scheme: uriScheme, Host: cluster}},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(authorityTTL),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	cert, err := sign(tmpl, tmpl, key, key)
	if err != nil {
		return nil, fmt.Errorf("cannot sign the certificate authority: %w", err)
	}
	data, err := encode(cert.Raw, key)
	if err != nil {
		return nil, err
	}
	if err := writePrivate(path, data); err != nil {
		return nil, fmt.Errorf("cannot keep the certificate authority: %w", err)
	}
	return &Authority{cluster: cluster, cert: cert, key: key, pem: encodeCert(cert.Raw)}, nil
}

// Issue makes a certificate for one node. Hosts are the DNS names and IP
// addresses under which tools that know nothing of slipway may reach it; nodes
// themselves need none. Ttl is cut to the authority's own life.
func (a *Authority) Issue(role Role, nodeID string, hosts []string, ttl time.Duration) (Bundle, error) {
	who := Identity{Cluster: a.cluster, Role: role, NodeID: nodeID}
	if err := who.check(); err != nil {
		return Bundle{}, ci.Errorf(ci.Invalid, "cannot issue a certificate: %w", err)
	}
	if ttl <= 0 {
		return Bundle{}, ci.Errorf(ci.Invalid, "cannot issue a certificate for %s: its life of %s is over", who, ttl)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Bundle{}, fmt.Errorf("cannot make a key for %s: %w", who, err)
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{Organization: []string{"slipway"}, CommonName: string(role) + " " + nodeID},
		URIs:         []*url.URL{who.uri()},
		DNSNames:     []string{serverName(a.cluster, role)},
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(min(ttl, a.cert.NotAfter.Sub(now))),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, h)
		}
	}
	cert, err := sign(tmpl, a.cert, key, a.key)
	if err != nil {
		return Bundle{}, fmt.Errorf("cannot sign a certificate for %s: %w", who, err)
	}
	data, err := encode(cert.Raw, key)
	if err != nil {
		return Bundle{}, err
	}
	return Bundle{Pair: data, Roots: a.pem}, nil
}

func sign(tmpl, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, parentKey)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func serial() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the process instead
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b)
}
