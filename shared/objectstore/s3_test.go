package objectstore_test

import (
	"net/http/httptest"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/slipway-ci/slipway/shared/objectstore"
	"github.com/slipway-ci/slipway/shared/objectstore/objectstoretest"
	"github.com/slipway-ci/slipway/shared/objectstore/s3dev/s3devtest"
)

func open(t *testing.T, cfg objectstore.Config) *objectstore.S3 {
	t.Helper()
	s, err := objectstore.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestEmbeddedServer(t *testing.T) {
	cfg := s3devtest.Start(t)
	objectstoretest.Run(t, func(t *testing.T) objectstore.Bucket { return open(t, cfg) })
}

// gofakes3 does not verify signatures, but its semantics are not ours.
func TestIndependentServer(t *testing.T) {
	backend := s3mem.New()
	if err := backend.CreateBucket("other"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(backend).Server())
	defer server.Close()
	cfg := objectstore.Config{Endpoint: server.URL, Bucket: "other", AccessKey: "a", SecretKey: "b", PathStyle: true}
	objectstoretest.Run(t, func(t *testing.T) objectstore.Bucket { return open(t, cfg) })
}
