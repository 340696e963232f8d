package s3gate_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/objectstore"
)

func TestBodies(t *testing.T) {
	s := newStage(t)
	text := strings.Repeat("0123456789abcdef", 5000)
	wrong := hashOf("something else")
	const crc = "kulhQw==" // CRC32C of "trailer text"
	chunkedTo := func(key string, edit func([]byte) []byte, headers ...string) *http.Request {
		r := request(t, http.MethodPut, s.at(prefix+"/"+key), "", append([]string{"X-Amz-Decoded-Content-Length", fmt.Sprint(len(text)), "Content-Encoding", "aws-chunked"}, headers...)...)
		by := theStep()
		seed := by.sign(r, streaming)
		var b bytes.Buffer
		if err := by.chunked(&b, seed, text[:65536], text[65536:]); err != nil {
			t.Fatal(err)
		}
		data := b.Bytes()
		if edit != nil {
			data = edit(data)
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
		return r
	}
	plainTo := func(key, payload string) *http.Request {
		r := request(t, http.MethodPut, s.at(prefix+"/"+key), text)
		theStep().sign(r, payload)
		return r
	}
	trailed := func(key, sum string) *http.Request {
		body := "c\r\ntrailer text\r\n0\r\nx-amz-checksum-crc32c:" + sum + "\r\n\r\n"
		r := request(t, http.MethodPut, s.at(prefix+"/"+key), body, "X-Amz-Decoded-Content-Length", "12", "X-Amz-Trailer", "x-amz-checksum-crc32c")
		theStep().sign(r, "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
		return r
	}
	for key, tt := range map[string]struct {
		r    *http.Request
		want string
		text string
	}{
		"signed":       {plainTo("signed", hashOf(text)), "", text},
		"unsigned":     {plainTo("unsigned", "UNSIGNED-PAYLOAD"), "", text},
		"wrong hash":   {plainTo("wrong%20hash", wrong), "XAmzContentSHA256Mismatch", ""},
		"no hash":      {plainTo("no%20hash", "abc"), "InvalidArgument", ""},
		"chunked":      {chunkedTo("chunked", nil), "", text},
		"first byte":   {chunkedTo("first%20byte", func(b []byte) []byte { b[100] ^= 1; return b }), "SignatureDoesNotMatch", ""},
		"last byte":    {chunkedTo("last%20byte", func(b []byte) []byte { b[bytes.LastIndex(b, []byte("f\r\n0;"))] ^= 1; return b }), "SignatureDoesNotMatch", ""},
		"cut":          {chunkedTo("cut", func(b []byte) []byte { return b[:len(b)-90] }), "IncompleteBody", ""},
		"wrong length": {chunkedTo("wrong%20length", func(b []byte) []byte { return append(b, "more"...) }), "InvalidRequest", ""},
		"trailer":      {trailed("trailer", crc), "", "trailer text"},
		"bad trailer":  {trailed("bad%20trailer", "AAAAAA=="), "BadDigest", ""},
	} {
		wantCode(t, key, tt.r, tt.want)
		r, err := s.real.Get(t.Context(), prefix+"/"+key, 0, -1)
		if tt.want != "" {
			if ci.KindOf(err) != ci.NotFound {
				t.Errorf("%s: a refused object is in the store: %v", key, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", key, err)
			continue
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != tt.text {
			t.Errorf("%s: holds %d bytes, %v", key, len(got), err)
		}
		_ = r.Close()
	}
}

// streamStore tells of the first bytes of a body and hashes all of it.
type streamStore struct {
	first chan struct{}
	sum   chan string
}

func (s *streamStore) Do(_ context.Context, r *http.Request) (*http.Response, error) {
	hash := sha256.New()
	if _, err := io.CopyN(hash, r.Body, 1000); err != nil {
		return nil, err
	}
	close(s.first)
	n, err := io.Copy(hash, r.Body)
	if err != nil {
		return nil, err
	}
	if n+1000 != r.ContentLength {
		return nil, errors.New("the length is wrong")
	}
	s.sum <- hex.EncodeToString(hash.Sum(nil))
	return response(http.StatusOK, ""), nil
}

// The client sends its second piece only when the store has read of the first,
// so a gate that collects bodies before it sends them on hangs here.
func TestUploadsStream(t *testing.T) {
	t.Parallel()
	store := &streamStore{first: make(chan struct{}), sum: make(chan string, 1)}
	s := &stage{bucket: "bucket"}
	s.serve(t, store)
	const pieces, size = 64, 1 << 20
	piece := strings.Repeat("x", size)
	all := sha256.New()
	for range pieces {
		if _, err := io.WriteString(all, piece); err != nil {
			t.Fatal(err)
		}
	}
	r := request(t, http.MethodPut, s.at(prefix+"/big"), "", "X-Amz-Decoded-Content-Length", fmt.Sprint(pieces*size))
	by := theStep()
	seed := by.sign(r, streaming)
	pr, pw := io.Pipe()
	r.Body, r.ContentLength = pr, -1
	var group errgroup.Group
	group.Go(func() error {
		list := make([]string, pieces)
		for i := range list {
			list[i] = piece
		}
		err := by.chunked(&gated{w: pw, after: size, until: store.first, ctx: t.Context()}, seed, list...)
		pw.CloseWithError(err)
		return err
	})
	wantCode(t, "stream", r, "")
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := <-store.sum; got != hex.EncodeToString(all.Sum(nil)) {
		t.Error("the store got other bytes")
	}
}

// gated stops once after some bytes, until a channel closes.
type gated struct {
	w       io.Writer
	written int
	after   int
	until   chan struct{}
	ctx     context.Context
}

func (g *gated) Write(p []byte) (int, error) {
	if g.written > g.after {
		select {
		case <-g.until:
		case <-g.ctx.Done():
			return 0, g.ctx.Err()
		}
	}
	n, err := g.w.Write(p)
	g.written += n
	return n, err
}

func TestDownloadsStream(t *testing.T) {
	t.Parallel()
	s, store := fakeStage(t)
	pr, pw := io.Pipe()
	store.answer = func(*http.Request) *http.Response {
		return &http.Response{StatusCode: http.StatusPartialContent, Header: http.Header{"Etag": {`"e"`}, "Connection": {"close"}}, Body: pr}
	}
	r := request(t, http.MethodGet, s.at(prefix+"/big"), "", "Range", "bytes=0-9")
	theStep().sign(r, hashOf(""))
	var group errgroup.Group
	half := make(chan struct{})
	group.Go(func() error {
		_, err := pw.Write(bytes.Repeat([]byte("a"), 100_000))
		<-half
		// The store breaks off: the client must not take it for the end.
		return errors.Join(err, pw.CloseWithError(errors.New("broken")))
	})
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusPartialContent || resp.Header.Get("Etag") != `"e"` || store.last.Header.Get("Range") != "bytes=0-9" {
		t.Errorf("%s %v, asked for %v", resp.Status, resp.Header, store.last.Header)
	}
	if _, err := io.CopyN(io.Discard, resp.Body, 50_000); err != nil {
		t.Fatalf("the first half does not come before the end: %v", err)
	}
	close(half)
	if _, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Error("a broken download looks whole")
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

// hangingStore reads the body and then waits for its context to end.
type hangingStore struct{ busy chan struct{} }

func (h hangingStore) Do(ctx context.Context, r *http.Request) (*http.Response, error) {
	close(h.busy)
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestRemoveCutsRequests(t *testing.T) {
	t.Parallel()
	store := hangingStore{make(chan struct{})}
	s := &stage{bucket: "bucket"}
	s.serve(t, store)
	var group errgroup.Group
	group.Go(func() error {
		<-store.busy
		s.gate.Remove("one")
		return nil
	})
	r := request(t, http.MethodPut, s.at(prefix+"/a"), "text")
	theStep().sign(r, "UNSIGNED-PAYLOAD")
	wantCode(t, "in flight", r, "AccessDenied")
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if told := s.told(); told != nil {
		t.Errorf("told of %q", told)
	}
}

type brokenStore struct{}

func (brokenStore) Do(context.Context, *http.Request) (*http.Response, error) {
	return nil, ci.Errorf(ci.Unavailable, "nobody there")
}

func TestStoreAway(t *testing.T) {
	t.Parallel()
	s := &stage{bucket: "bucket"}
	s.serve(t, brokenStore{})
	r := request(t, http.MethodPut, s.at(prefix+"/a"), "text")
	theStep().sign(r, "UNSIGNED-PAYLOAD")
	wantCode(t, "outage", r, "ServiceUnavailable")
	_, err := s.client(t, access, secret).Stat(t.Context(), prefix+"/a")
	if ci.KindOf(err) != ci.Unavailable {
		t.Errorf("a client sees %v", err)
	}
}

func TestTellsOfObjects(t *testing.T) {
	s := newStage(t)
	client := s.client(t, access, secret)
	put := func(key string, size int) error {
		_, err := client.Put(t.Context(), key, strings.NewReader(strings.Repeat("x", size)), int64(size), objectstore.PutOptions{})
		return err
	}
	if err := put(prefix+"/complete", 7); err != nil {
		t.Fatal(err)
	}
	s.waitTold(t, "one complete")
	if err := put(prefix+"/artifacts/large", 20<<20); err != nil {
		t.Fatal(err)
	}
	s.waitTold(t, "one artifacts/large")

	r := request(t, http.MethodPut, s.at(prefix+"/copy"), "", "X-Amz-Copy-Source", "/"+s.bucket+"/"+prefix+"/complete")
	theStep().sign(r, hashOf(""))
	wantCode(t, "copy", r, "")
	s.waitTold(t, "one copy")

	if err := put(prefix+"/status.json", 3); ci.KindOf(err) != ci.Forbidden || !strings.Contains(err.Error(), "report.json") {
		t.Errorf("status.json: %v", err)
	}
	if err := put(prefix+"0/complete", 3); ci.KindOf(err) != ci.Forbidden {
		t.Errorf("outside: %v", err)
	}
	// The real store's names are the client's: the object lies where it said.
	if o, err := s.real.Stat(t.Context(), prefix+"/copy"); err != nil || o.Size != 7 {
		t.Errorf("%+v, %v", o, err)
	}
	if told := s.told(); told != nil {
		t.Errorf("told of %q", told)
	}
}

func TestDoesNotTellOfFailures(t *testing.T) {
	t.Parallel()
	s, store := fakeStage(t)
	for name, answer := range map[string]*http.Response{
		"refused":        response(http.StatusPreconditionFailed, ""),
		"fails later":    response(http.StatusOK, "<?xml?>\n<Error><Code>InternalError</Code></Error>"),
		"part, not more": nil,
	} {
		store.answer = func(*http.Request) *http.Response { return answer }
		target, method, body := s.at(prefix+"/a?uploadId=u"), http.MethodPost, "<CompleteMultipartUpload/>"
		if answer == nil {
			store.answer = nil
			target, method, body = s.at(prefix+"/a?partNumber=1&uploadId=u"), http.MethodPut, "part"
		}
		r := request(t, method, target, body)
		theStep().sign(r, hashOf(body))
		do(t, r)
		if told := s.told(); told != nil {
			t.Errorf("%s: told of %q", name, told)
		}
	}
}

func TestServeEndsWithItsListener(t *testing.T) {
	t.Parallel()
	s, _ := fakeStage(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := s.gate.Serve(ctx, closedListener(t))
	if ci.KindOf(err) != ci.Unavailable || ctx.Err() != nil {
		t.Errorf("%v", err)
	}
}
