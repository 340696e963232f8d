package objectstore_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/objectstore"
	"github.com/slipway-ci/slipway/shared/objectstore/s3dev/s3devtest"
)

func TestSignaturesMatter(t *testing.T) {
	cfg := s3devtest.Start(t)
	s := open(t, cfg)
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, s, "secret", "text")

	wrong := cfg
	wrong.SecretKey = "not the secret"
	_, err := open(t, wrong).Stat(t.Context(), "secret")
	wantError(t, err, ci.Forbidden, "s3://"+cfg.Bucket+"/secret", "access key")

	link, err := s.URL(t.Context(), "secret", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for name, url := range map[string]string{
		"another key":  strings.Replace(link, "/secret?", "/secret2?", 1),
		"longer":       strings.Replace(link, "X-Amz-Expires=3600", "X-Amz-Expires=7200", 1),
		"no signature": link[:strings.Index(link, "?")],
	} {
		resp := send(t, http.MethodGet, url, "")
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %s", name, resp.Status)
		}
	}
	if resp := send(t, http.MethodPut, link, "overwrite"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a link to read writes: %s", resp.Status)
	}
	if resp := send(t, http.MethodGet, link, ""); resp.StatusCode != http.StatusOK {
		t.Errorf("the link itself: %s", resp.Status)
	}

	absent := cfg
	absent.Bucket = "no-such-bucket"
	_, err = open(t, absent).List(t.Context(), "", "")
	wantError(t, err, ci.NotFound, "s3://no-such-bucket", "create the bucket")
	wantError(t, open(t, absent).Check(t.Context()), ci.NotFound, "no-such-bucket")
}

func TestObjectsSurviveRestart(t *testing.T) {
	for name, dir := range map[string]string{"temp": t.TempDir(), "shm": shm(t)} {
		t.Run(name, func(t *testing.T) {
			here, err := os.Getwd()
			if err != nil {
				t.Fatal(err)
			}
			var before objectstore.Object
			t.Run("first", func(t *testing.T) {
				s := open(t, s3devtest.StartIn(t, dir))
				put(t, s, "a/b", "kept")
				if before, err = s.Stat(t.Context(), "a/b"); err != nil {
					t.Fatal(err)
				}
			})
			t.Run("second", func(t *testing.T) {
				s := open(t, s3devtest.StartIn(t, dir))
				after, err := s.Stat(t.Context(), "a/b")
				if err != nil || after != before {
					t.Errorf("before %+v, after %+v, %v", before, after, err)
				}
				if _, err := s.Put(t.Context(), "a/b", strings.NewReader("x"), 1, objectstore.PutOptions{IfNoneMatch: true}); ci.KindOf(err) != ci.Conflict {
					t.Errorf("put once over a kept object: %v", err)
				}
			})
			if now, err := os.Getwd(); err != nil || now != here {
				t.Errorf("the server moved the process from %s to %s, %v", here, now, err)
			}
		})
	}
}

// shm is a folder on a tmpfs, where extended attributes may lack.
func shm(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "slipway-s3dev-")
	if err != nil {
		t.Logf("no tmpfs at /dev/shm: %v", err)
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestOutage(t *testing.T) {
	t.Parallel()
	dead := httptest.NewServer(http.NotFoundHandler())
	dead.Close()
	cfg := objectstore.Config{Endpoint: dead.URL, Bucket: "b", AccessKey: "a", SecretKey: "s", PathStyle: true}
	_, err := open(t, cfg).Stat(t.Context(), "key")
	wantError(t, err, ci.Unavailable, "s3://b/key", dead.URL)
	_, err = open(t, cfg).Put(t.Context(), "key", strings.NewReader("x"), 1, objectstore.PutOptions{})
	wantError(t, err, ci.Unavailable, "s3://b/key", dead.URL)

	calls := 0
	sick := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls++
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer sick.Close()
	cfg.Endpoint = sick.URL
	_, err = open(t, cfg).Get(t.Context(), "key", 0, -1)
	wantError(t, err, ci.Unavailable, "s3://b/key")
	if calls < 2 || calls > 6 {
		t.Errorf("%d calls, want a few", calls)
	}
}

func TestBrokenDownload(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "only this")
	}))
	defer server.Close()
	s := open(t, objectstore.Config{Endpoint: server.URL, Bucket: "b", AccessKey: "a", SecretKey: "s", PathStyle: true})
	r, err := s.Get(t.Context(), "key", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadAll(r)
	wantError(t, err, ci.Unavailable, "cannot read s3://b/key")
	_ = r.Close()
}

func TestOpenRefuses(t *testing.T) {
	for name, cfg := range map[string]objectstore.Config{
		"no bucket":    {Endpoint: "http://127.0.0.1:1"},
		"half a pair":  {Bucket: "b", AccessKey: "a"},
		"no scheme":    {Bucket: "b", Endpoint: "127.0.0.1:9000", AccessKey: "a", SecretKey: "s"},
		"with a path":  {Bucket: "b", Endpoint: "http://h/path", AccessKey: "a", SecretKey: "s"},
		"other scheme": {Bucket: "b", Endpoint: "ftp://h", AccessKey: "a", SecretKey: "s"},
	} {
		_, err := objectstore.Open(t.Context(), cfg)
		if ci.KindOf(err) != ci.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDo(t *testing.T) {
	cfg := s3devtest.Start(t)
	s := open(t, cfg)
	const key = "folder/a b+ü%2F(x)"
	text := strings.Repeat("plain", 1000)
	sum := sha256.Sum256([]byte(text))
	for name, hash := range map[string]string{"unsigned": "", "signed": hex.EncodeToString(sum[:])} {
		req := newRequest(t, http.MethodPut, cfg.Bucket, key, "", text)
		if hash != "" {
			req.Header.Set("X-Amz-Content-Sha256", hash)
		}
		req.Header.Set("X-Amz-Meta-Name", name)
		resp, err := s.Do(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", name, resp.Status)
		}
		resp, err = s.Do(t.Context(), newRequest(t, http.MethodGet, cfg.Bucket, key, "", ""))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(body) != text || resp.Header.Get("X-Amz-Meta-Name") != name {
			t.Errorf("%s: %d bytes, %v, %v", name, len(body), resp.Header, err)
		}
	}
	resp, err := s.Do(t.Context(), newRequest(t, http.MethodGet, cfg.Bucket, "", "list-type=2&prefix=folder%2Fa%20b%2B", ""))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if !bytes.Contains(body, []byte("<KeyCount>1</KeyCount>")) {
		t.Errorf("list: %s", body)
	}
	_, err = s.Do(t.Context(), newRequest(t, http.MethodGet, "other", "x", "", ""))
	wantError(t, err, ci.Forbidden, "/other/x", cfg.Bucket)
}

func newRequest(t *testing.T, method, bucket, key, query, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://gate/", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.URL.Path, req.URL.RawQuery = "/"+bucket+"/"+key, query
	return req
}

func put(t *testing.T, b objectstore.Bucket, key, text string) {
	t.Helper()
	if _, err := b.Put(t.Context(), key, strings.NewReader(text), int64(len(text)), objectstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func send(t *testing.T, method, url, body string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}

func wantError(t *testing.T, err error, kind ci.Kind, parts ...string) {
	t.Helper()
	if err == nil || ci.KindOf(err) != kind {
		t.Fatalf("want %v, got %v", kind, err)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q lacks %q", err, part)
		}
	}
}
