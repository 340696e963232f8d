// Package s3devtest gives tests buckets in the embedded S3 server.
package s3devtest

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/slipway-ci/slipway/shared/objectstore"
	"github.com/slipway-ci/slipway/shared/objectstore/s3dev"
)

// The credentials of every server that Start makes.
const (
	AccessKey = "SLIPWAYTESTACCESSKEY"
	SecretKey = "slipway-test-secret-key-0123456789"
)

// slot is the one server that a process may have: a library's limit.
var slot sync.Mutex

// Start runs a server for the length of the test and returns how to reach its
// empty bucket. A second Start waits until the first one's test is over, so a
// test starts at most one, and a parallel test shares its parent's.
func Start(t testing.TB) objectstore.Config {
	t.Helper()
	return StartIn(t, t.TempDir())
}

// StartIn is Start with a folder of the caller's, which may hold objects.
func StartIn(t testing.TB, dir string) objectstore.Config {
	t.Helper()
	slot.Lock()
	stop, cfg, err := start(dir)
	if err != nil {
		slot.Unlock()
		t.Fatalf("cannot start the S3 server: %v", err)
	}
	t.Cleanup(func() {
		defer slot.Unlock()
		if err := stop(); err != nil {
			t.Errorf("the S3 server ended badly: %v", err)
		}
	})
	return cfg
}

func start(dir string) (stop func() error, cfg objectstore.Config, err error) {
	cfg = objectstore.Config{
		Region: "us-east-1", Bucket: "b" + strings.ToLower(rand.Text()[:10]),
		AccessKey: AccessKey, SecretKey: SecretKey, PathStyle: true,
	}
	if entries, err := os.ReadDir(dir + "/data"); err == nil {
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), ".") {
				cfg.Bucket = e.Name()
			}
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group errgroup.Group
	ready := make(chan string, 1)
	ended := make(chan error, 1)
	group.Go(func() error {
		err := s3dev.Run(ctx, s3dev.Config{
			Dir: dir, Bucket: cfg.Bucket, Region: cfg.Region,
			AccessKey: AccessKey, SecretKey: SecretKey,
		}, func(endpoint string) { ready <- endpoint })
		ended <- err
		return err
	})
	select {
	case cfg.Endpoint = <-ready:
	case err := <-ended:
		cancel()
		return nil, cfg, errors.Join(errors.New("it ended before it was ready"), err)
	case <-time.After(time.Minute):
		cancel()
		return nil, cfg, errors.New("it is not ready after a minute")
	}
	return func() error {
		cancel()
		return errors.Join(group.Wait(), closed(cfg.Endpoint))
	}, cfg, nil
}

// Leaks names the goroutines that the server's HTTP library leaves behind for
// a while or for ever, for goleak.VerifyTestMain.
func Leaks() []goleak.Option {
	return []goleak.Option{
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
	}
}

// closed makes sure that nothing listens any more.
func closed(endpoint string) error {
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(endpoint, "http://"), time.Second)
	if err == nil {
		conn.Close()
		return errors.New("the port is still open")
	}
	return nil
}
