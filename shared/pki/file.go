package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/slipway-ci/slipway/shared/ci"
)

const (
	blockCert = "CERTIFICATE"
	blockKey  = "PRIVATE KEY"
)

// Bundle is what a node needs: its pair, to show, and the roots, to trust.
type Bundle struct {
	Pair  []byte // PEM of the private key and the certificate
	Roots []byte // PEM of the authorities
}

const rootsMark = "-----BEGIN SLIPWAY ROOTS-----\n-----END SLIPWAY ROOTS-----\n"

// Save keeps the bundle in one file of mode 0600 that is replaced atomically,
// so that a reader never sees a key beside another key's certificate.
func (b Bundle) Save(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("cannot make the folder of the certificate: %w", err)
	}
	if err := writePrivate(path, bytes.Join([][]byte{b.Pair, b.Roots}, []byte(rootsMark))); err != nil {
		return fmt.Errorf("cannot keep the certificate: %w", err)
	}
	return nil
}

// LoadBundle reads what Save wrote.
func LoadBundle(path string) (Bundle, error) {
	data, err := readPrivate(path)
	if err != nil {
		return Bundle{}, fmt.Errorf("cannot load the certificate: %w", err)
	}
	pair, roots, ok := bytes.Cut(data, []byte(rootsMark))
	if !ok {
		return Bundle{}, ci.Errorf(ci.Internal, "%s is not a certificate file of slipway", path)
	}
	return Bundle{Pair: pair, Roots: roots}, nil
}

// readPrivate reads a file that holds a key and refuses one that others can read.
func readPrivate(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, ci.Errorf(ci.Internal, "%s holds a private key but has mode %04o: run chmod 600 on it", path, mode)
	}
	return os.ReadFile(path)
}

// writePrivate replaces path in one step; after a crash it holds the old or the
// new content.
func writePrivate(path string, data []byte) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err = os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: blockCert, Bytes: der})
}

func encode(cert []byte, key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("cannot encode a private key: %w", err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: blockKey, Bytes: der}), encodeCert(cert)...), nil
}

// decode reads certificates and at most one key, and checks that key and first
// certificate belong together.
func decode(data []byte) (certs []*x509.Certificate, key *ecdsa.PrivateKey, err error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case blockCert:
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, nil, fmt.Errorf("cannot read a certificate: %w", err)
			}
			certs = append(certs, cert)
		case blockKey:
			parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, nil, fmt.Errorf("cannot read the private key: %w", err)
			}
			k, ok := parsed.(*ecdsa.PrivateKey)
			if !ok || key != nil {
				return nil, nil, errors.New("want exactly one private key, of the ECDSA kind")
			}
			key = k
		}
	}
	if len(certs) == 0 || key == nil {
		return nil, nil, errors.New("certificate or private key is missing")
	}
	if !key.PublicKey.Equal(certs[0].PublicKey) {
		return nil, nil, errors.New("certificate and private key do not belong together")
	}
	return certs, key, nil
}
