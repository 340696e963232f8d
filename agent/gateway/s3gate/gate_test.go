package s3gate_test

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slipway-ci/slipway/agent/gateway/s3gate"
	"github.com/slipway-ci/slipway/shared/needs"
	"github.com/slipway-ci/slipway/shared/objectstore"
	"github.com/slipway-ci/slipway/shared/objectstore/objectstoretest"
	"github.com/slipway-ci/slipway/shared/objectstore/s3dev/s3devtest"
)

func TestMain(m *testing.M) { needs.NoLeaks(m, s3devtest.Leaks()...) }

const (
	prefix = "fleet/cluster/t/acme/r/run/build/1-7"
	access = "ATTEMPTONE"
	secret = "attempt-one-secret/with+odd=characters"
)

// stage is a gate before the embedded server, with one grant.
type stage struct {
	gate     *s3gate.Gate
	endpoint string
	bucket   string
	real     *objectstore.S3

	mu   sync.Mutex
	puts []string
}

func newStage(t *testing.T) *stage {
	t.Helper()
	cfg := s3devtest.Start(t)
	store, err := objectstore.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	s := &stage{bucket: cfg.Bucket, real: store}
	s.serve(t, store)
	return s
}

// serve puts a gate before an upstream, and a grant into it.
func (s *stage) serve(t *testing.T, upstream s3gate.Upstream) {
	t.Helper()
	s.gate = s3gate.New(s3gate.Config{
		Upstream: upstream,
		Log:      slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
		OnPut: func(attempt, name string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.puts = append(s.puts, attempt+" "+name)
		},
	})
	err := s.gate.Add(s3gate.Grant{AttemptID: "one", AccessKey: access, SecretKey: secret, Bucket: s.bucket, Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.endpoint = "http://" + l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var group errgroup.Group
	group.Go(func() error { return s.gate.Serve(ctx, l) })
	t.Cleanup(func() {
		cancel()
		if err := group.Wait(); err != nil {
			t.Errorf("the gate ended badly: %v", err)
		}
	})
}

func (s *stage) told() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	told := s.puts
	s.puts = nil
	return told
}

// waitTold waits for OnPut, which comes after the client's answer.
func (s *stage) waitTold(t *testing.T, want string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if told := s.told(); len(told) > 0 {
			if got := strings.Join(told, ","); got != want {
				t.Fatalf("told of %q, want %q", got, want)
			}
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not told of %q", want)
		}
	}
}

// client is an AWS client with the step's credentials.
func (s *stage) client(t *testing.T, accessKey, secretKey string) *objectstore.S3 {
	t.Helper()
	c, err := objectstore.Open(t.Context(), objectstore.Config{
		Endpoint: s.endpoint, Bucket: s.bucket, AccessKey: accessKey, SecretKey: secretKey, PathStyle: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// below is a bucket whose keys lie below a prefix.
type below struct {
	*objectstore.S3
	at string
}

func TestSuiteThroughTheGate(t *testing.T) {
	s := newStage(t)
	objectstoretest.Run(t, func(t *testing.T) objectstore.Bucket {
		return below{s.client(t, access, secret), prefix + "/" + filepath.Base(t.Name()) + "/"}
	})
}

func closedListener(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l
}
