package s3dev_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/needs"
	"github.com/slipway-ci/slipway/shared/objectstore"
	"github.com/slipway-ci/slipway/shared/objectstore/s3dev"
	"github.com/slipway-ci/slipway/shared/objectstore/s3dev/s3devtest"
)

func TestMain(m *testing.M) { needs.NoLeaks(m, s3devtest.Leaks()...) }

func config(t *testing.T) s3dev.Config {
	return s3dev.Config{Dir: filepath.Join(t.TempDir(), "made", "by", "it"), AccessKey: "key", SecretKey: "secret", Bucket: "slipway"}
}

func client(t *testing.T, endpoint string) *objectstore.S3 {
	t.Helper()
	s, err := objectstore.Open(t.Context(), objectstore.Config{
		Endpoint: endpoint, Bucket: "slipway", AccessKey: "key", SecretKey: "secret", PathStyle: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// inGroup runs the server as a member of a group, and use as the one after it.
func inGroup(t *testing.T, cfg s3dev.Config, use func(ctx context.Context, endpoint string) error) error {
	t.Helper()
	done := errors.New("done")
	ready := make(chan string, 1)
	var group lifecycle.Group
	group.Add("s3", func(ctx context.Context) error {
		return s3dev.Run(ctx, cfg, func(endpoint string) { ready <- endpoint })
	})
	group.Add("use", func(ctx context.Context) error {
		select {
		case endpoint := <-ready:
			if err := use(ctx, endpoint); err != nil {
				return err
			}
			return done
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	err := group.Run(t.Context())
	if errors.Is(err, done) {
		return nil
	}
	return err
}

func TestFixedPortKeepsEndpoint(t *testing.T) {
	cfg := config(t)
	first := ""
	err := inGroup(t, cfg, func(ctx context.Context, endpoint string) error {
		first = endpoint
		_, err := client(t, endpoint).Put(ctx, "a", strings.NewReader("1"), 1, objectstore.PutOptions{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listen = strings.TrimPrefix(first, "http://")
	err = inGroup(t, cfg, func(ctx context.Context, endpoint string) error {
		if endpoint != first {
			t.Errorf("first at %s, then at %s", first, endpoint)
		}
		_, err := client(t, endpoint).Stat(ctx, "a")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestRefusals(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(*s3dev.Config)
		want   ci.Kind
	}{
		"port taken":    {func(c *s3dev.Config) { c.Listen = taken.Addr().String() }, ci.Conflict},
		"no port":       {func(c *s3dev.Config) { c.Listen = "localhost" }, ci.Invalid},
		"no secret":     {func(c *s3dev.Config) { c.SecretKey = "" }, ci.Invalid},
		"bad bucket":    {func(c *s3dev.Config) { c.Bucket = "../out" }, ci.Invalid},
		"folder = file": {func(c *s3dev.Config) { c.Dir = file }, ci.Internal},
	} {
		cfg := config(t)
		tt.change(&cfg)
		err := s3dev.Run(t.Context(), cfg, func(string) { t.Errorf("%s: ready", name) })
		if err == nil || ci.KindOf(err) != tt.want {
			t.Errorf("%s: %v: %v", name, ci.KindOf(err), err)
		}
	}
}

// A client that dies in the middle of an upload leaves nothing behind.
func TestBrokenUpload(t *testing.T) {
	err := inGroup(t, config(t), func(ctx context.Context, endpoint string) error {
		s := client(t, endpoint)
		for _, size := range []int{1, 1000, 100_000} {
			link, err := s.PutURL(ctx, "half", time.Hour)
			if err != nil {
				return err
			}
			conn, err := net.Dial("tcp", strings.TrimPrefix(endpoint, "http://"))
			if err != nil {
				return err
			}
			fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 200000\r\n\r\n%s",
				strings.TrimPrefix(link, endpoint), strings.TrimPrefix(endpoint, "http://"), strings.Repeat("x", size))
			// Half closed, the answer can still be awaited.
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				return err
			}
			answer, err := io.ReadAll(conn)
			conn.Close()
			if err != nil || strings.Contains(string(answer), " 200 ") {
				t.Errorf("%d of 200000 bytes: %s, %v", size, answer, err)
			}
			if o, err := s.Stat(ctx, "half"); ci.KindOf(err) != ci.NotFound {
				t.Errorf("%d of 200000 bytes make %+v, %v", size, o, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCopyInsideTheBucket(t *testing.T) {
	err := inGroup(t, config(t), func(ctx context.Context, endpoint string) error {
		s := client(t, endpoint)
		if _, err := s.Put(ctx, "from", strings.NewReader("text"), 4, objectstore.PutOptions{ContentType: "text/x"}); err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, endpoint+"/slipway/to/here", nil)
		if err != nil {
			return err
		}
		req.Header.Set("X-Amz-Copy-Source", "/slipway/from")
		resp, err := s.Do(ctx, req)
		if err != nil {
			return err
		}
		resp.Body.Close()
		o, err := s.Stat(ctx, "to/here")
		if resp.StatusCode != http.StatusOK || o.Size != 4 {
			t.Errorf("%s, %+v, %v", resp.Status, o, err)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
