// Package objectstoretest is the conformance suite of objectstore.Bucket, and
// a fake bucket in memory that passes it.
package objectstoretest

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/objectstore"
)

// Run runs the suite. open returns an empty bucket for each test, or the same
// bucket: every test keeps below a prefix of its own.
func Run(t *testing.T, open func(t *testing.T) objectstore.Bucket) {
	tests := map[string]func(*testing.T, bucket){
		"put get stat":      testPutGet,
		"odd keys":          testKeys,
		"ranges":            testRanges,
		"missing":           testMissing,
		"put once":          testPutOnce,
		"put once race":     testPutOnceRace,
		"wrong size":        testWrongSize,
		"broken reader":     testBrokenReader,
		"large":             testLarge,
		"list":              testList,
		"list pages":        testListPages,
		"delete":            testDelete,
		"links":             testLinks,
		"invalid arguments": testInvalid,
		"canceled":          testCanceled,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test(t, bucket{open(t), strings.ReplaceAll(name, " ", "-") + "/"})
		})
	}
}

// bucket adds the test's prefix and the shortest forms of the calls.
type bucket struct {
	objectstore.Bucket
	prefix string
}

func (b bucket) put(t *testing.T, key, text string) string {
	t.Helper()
	etag, err := b.Put(t.Context(), b.prefix+key, strings.NewReader(text), int64(len(text)), objectstore.PutOptions{})
	if err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
	return etag
}

func (b bucket) get(t *testing.T, key string, off, n int64) string {
	t.Helper()
	r, err := b.Get(t.Context(), b.prefix+key, off, n)
	if err != nil {
		t.Fatalf("get %s %d+%d: %v", key, off, n, err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("read %s: %v", key, err)
	}
	if err := r.Close(); err != nil {
		t.Fatalf("close %s: %v", key, err)
	}
	return string(data)
}

func (b bucket) list(t *testing.T, prefix, after string) []string {
	t.Helper()
	if after != "" {
		after = b.prefix + after
	}
	objects, err := b.List(t.Context(), b.prefix+prefix, after)
	if err != nil {
		t.Fatalf("list %s after %s: %v", prefix, after, err)
	}
	var keys []string
	for _, o := range objects {
		keys = append(keys, strings.TrimPrefix(o.Key, b.prefix))
	}
	return keys
}

func wantKind(t *testing.T, err error, kind ci.Kind) {
	t.Helper()
	if err == nil || ci.KindOf(err) != kind {
		t.Fatalf("want %v, got %v: %v", kind, ci.KindOf(err), err)
	}
}

func testPutGet(t *testing.T, b bucket) {
	before := time.Now()
	etag := b.put(t, "a/b.txt", "hello")
	if etag == "" {
		t.Error("put gives no etag")
	}
	if got := b.get(t, "a/b.txt", 0, -1); got != "hello" {
		t.Errorf("got %q", got)
	}
	o, err := b.Stat(t.Context(), b.prefix+"a/b.txt")
	if err != nil {
		t.Fatal(err)
	}
	if o.Key != b.prefix+"a/b.txt" || o.Size != 5 || o.ETag != etag {
		t.Errorf("stat: %+v, etag at put %s", o, etag)
	}
	if age := o.ModTime.Sub(before); age < -time.Minute || age > time.Hour {
		t.Errorf("modified at %s, put at %s", o.ModTime, before)
	}
	if again := b.put(t, "a/b.txt", "world!"); again == etag {
		t.Error("the etag did not change with the content")
	}
	if got := b.get(t, "a/b.txt", 0, -1); got != "world!" {
		t.Errorf("after overwrite: %q", got)
	}
	b.put(t, "empty", "")
	if got := b.get(t, "empty", 0, -1); got != "" {
		t.Errorf("empty object holds %q", got)
	}
	unknown := io.MultiReader(strings.NewReader("un"), strings.NewReader("known"))
	if _, err := b.Put(t.Context(), b.prefix+"stream", unknown, -1, objectstore.PutOptions{ContentType: "text/plain"}); err != nil {
		t.Fatal(err)
	}
	if got := b.get(t, "stream", 0, -1); got != "unknown" {
		t.Errorf("stream of unknown size: %q", got)
	}
}

func testKeys(t *testing.T, b bucket) {
	keys := []string{"a b", "a+b", "a%b", "ü/日本語", "a=b&c", "x~y", "(1)'!*", "@:,;$", "a?b#c", strings.Repeat("k", 200) + "/" + strings.Repeat("l", 200)}
	for _, key := range keys {
		b.put(t, key, key)
	}
	for _, key := range keys {
		if got := b.get(t, key, 0, -1); got != key {
			t.Errorf("%q holds %q", key, got)
		}
	}
	if got := b.list(t, "", ""); len(got) != len(keys) {
		t.Errorf("listed %d of %d: %q", len(got), len(keys), got)
	}
}

func testRanges(t *testing.T, b bucket) {
	b.put(t, "digits", "0123456789")
	for _, tt := range []struct {
		off, n int64
		want   string
	}{
		{0, -1, "0123456789"},
		{0, 3, "012"},
		{3, 4, "3456"},
		{8, 100, "89"},
		{9, 1, "9"},
		{5, -1, "56789"},
		{10, -1, ""},
		{50, 5, ""},
		{3, 0, ""},
	} {
		if got := b.get(t, "digits", tt.off, tt.n); got != tt.want {
			t.Errorf("%d+%d: got %q, want %q", tt.off, tt.n, got, tt.want)
		}
	}
}

func testMissing(t *testing.T, b bucket) {
	_, err := b.Get(t.Context(), b.prefix+"no", 0, -1)
	wantKind(t, err, ci.NotFound)
	_, err = b.Get(t.Context(), b.prefix+"no", 0, 0)
	wantKind(t, err, ci.NotFound)
	_, err = b.Stat(t.Context(), b.prefix+"no")
	wantKind(t, err, ci.NotFound)
	if !strings.Contains(err.Error(), b.prefix+"no") {
		t.Errorf("the error does not name the key: %v", err)
	}
	if got := b.list(t, "no", ""); got != nil {
		t.Errorf("listed %q", got)
	}
}

func testPutOnce(t *testing.T, b bucket) {
	once := objectstore.PutOptions{IfNoneMatch: true}
	if _, err := b.Put(t.Context(), b.prefix+"once", strings.NewReader("first"), 5, once); err != nil {
		t.Fatal(err)
	}
	_, err := b.Put(t.Context(), b.prefix+"once", strings.NewReader("second"), 6, once)
	wantKind(t, err, ci.Conflict)
	if got := b.get(t, "once", 0, -1); got != "first" {
		t.Errorf("got %q", got)
	}
	if err := b.Delete(t.Context(), b.prefix+"once"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Put(t.Context(), b.prefix+"once", strings.NewReader("third"), 5, once); err != nil {
		t.Fatal(err)
	}
}

func testPutOnceRace(t *testing.T, b bucket) {
	const writers = 8
	results := make([]error, writers)
	var group errgroup.Group
	for i := range writers {
		group.Go(func() error {
			text := fmt.Sprint("writer ", i)
			_, results[i] = b.Put(t.Context(), b.prefix+"race", strings.NewReader(text), int64(len(text)), objectstore.PutOptions{IfNoneMatch: true})
			return nil
		})
	}
	_ = group.Wait() // the results tell
	winner := -1
	for i, err := range results {
		switch {
		case err == nil && winner >= 0:
			t.Errorf("writers %d and %d both won", winner, i)
		case err == nil:
			winner = i
		default:
			wantKind(t, err, ci.Conflict)
		}
	}
	if got, want := b.get(t, "race", 0, -1), fmt.Sprint("writer ", winner); got != want {
		t.Errorf("holds %q, want %q", got, want)
	}
}

func testWrongSize(t *testing.T, b bucket) {
	for _, size := range []int64{3, 7} {
		_, err := b.Put(t.Context(), b.prefix+"wrong", strings.NewReader("hello"), size, objectstore.PutOptions{})
		wantKind(t, err, ci.Invalid)
	}
	if got := b.list(t, "", ""); got != nil {
		t.Errorf("a refused put left %q", got)
	}
}

func testBrokenReader(t *testing.T, b bucket) {
	broken := io.MultiReader(strings.NewReader("begin"), errReader{})
	_, err := b.Put(t.Context(), b.prefix+"broken", broken, -1, objectstore.PutOptions{})
	if err == nil || ci.KindOf(err) == ci.Unavailable {
		t.Errorf("a broken source is not the store's outage: %v", err)
	}
	if got := b.list(t, "", ""); got != nil {
		t.Errorf("a broken put left %q", got)
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }

func testLarge(t *testing.T, b bucket) {
	data := make([]byte, 20<<20+123)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{int64(len(data)), -1} {
		// Without Seek, as from a pipe.
		r := io.MultiReader(bytes.NewReader(data))
		if _, err := b.Put(t.Context(), b.prefix+"large", r, size, objectstore.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := b.get(t, "large", 0, -1); got != string(data) {
			t.Errorf("size %d: %d bytes came back of %d, or others", size, len(got), len(data))
		}
	}
	if got := b.get(t, "large", 10<<20, 1000); got != string(data[10<<20:10<<20+1000]) {
		t.Error("range in a large object differs")
	}
}

func testList(t *testing.T, b bucket) {
	// No object here is also a folder of another, which a store on a plain
	// file system cannot hold.
	for _, key := range []string{"b/2", "a", "b-1", "b.x", "c/d/e/f", "b/1/sub", "bb"} {
		b.put(t, key, key)
	}
	for _, tt := range []struct {
		prefix, after string
		want          []string
	}{
		{"", "", []string{"a", "b-1", "b.x", "b/1/sub", "b/2", "bb", "c/d/e/f"}},
		{"b/", "", []string{"b/1/sub", "b/2"}},
		{"b", "", []string{"b-1", "b.x", "b/1/sub", "b/2", "bb"}},
		{"", "b.x", []string{"b/1/sub", "b/2", "bb", "c/d/e/f"}},
		{"b/", "b/1/sub", []string{"b/2"}},
		{"b/", "b/1/t", []string{"b/2"}},
		{"", "zz", nil},
	} {
		if diff := cmp.Diff(tt.want, b.list(t, tt.prefix, tt.after)); diff != "" {
			t.Errorf("prefix %q after %q: -want +got\n%s", tt.prefix, tt.after, diff)
		}
	}
	objects, err := b.List(t.Context(), b.prefix+"c", "")
	if err != nil || len(objects) != 1 {
		t.Fatal(objects, err)
	}
	if o := objects[0]; o.Size != 7 || o.ETag == "" || o.ModTime.IsZero() {
		t.Errorf("listing lacks facts: %+v", o)
	}
}

func testListPages(t *testing.T, b bucket) {
	const count = objectstore.ListPage + 5
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(16)
	var want []string
	for i := range count {
		key := fmt.Sprintf("%05d", i)
		want = append(want, key)
		group.Go(func() error {
			_, err := b.Put(ctx, b.prefix+key, strings.NewReader("x"), 1, objectstore.PutOptions{})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	first := b.list(t, "", "")
	if len(first) != objectstore.ListPage {
		t.Fatalf("first page holds %d", len(first))
	}
	rest := b.list(t, "", first[len(first)-1])
	if diff := cmp.Diff(want, append(first, rest...)); diff != "" {
		t.Error(diff)
	}
	var keys []string
	for _, key := range want {
		keys = append(keys, b.prefix+key)
	}
	if err := b.Delete(t.Context(), keys...); err != nil {
		t.Fatal(err)
	}
	if got := b.list(t, "", ""); got != nil {
		t.Errorf("%d objects survive their deletion", len(got))
	}
}

func testDelete(t *testing.T, b bucket) {
	b.put(t, "x", "1")
	b.put(t, "y/z", "2")
	b.put(t, "keep", "3")
	for range 2 {
		if err := b.Delete(t.Context(), b.prefix+"x", b.prefix+"y/z"); err != nil {
			t.Fatal(err)
		}
		if err := b.Delete(t.Context(), b.prefix+"never/was"); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"keep"}, b.list(t, "", "")); diff != "" {
		t.Error(diff)
	}
}

func testLinks(t *testing.T, b bucket) {
	put, err := b.PutURL(t.Context(), b.prefix+"link ü", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	get, err := b.URL(t.Context(), b.prefix+"link ü", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(put, "http") {
		return // the fake's links lead nowhere
	}
	if status, body := request(t, http.MethodPut, put, "by link"); status != http.StatusOK {
		t.Fatalf("put by link: %d %s", status, body)
	}
	if status, body := request(t, http.MethodGet, get, ""); status != http.StatusOK || body != "by link" {
		t.Fatalf("get by link: %d %s", status, body)
	}
}

func request(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

func testInvalid(t *testing.T, b bucket) {
	ctx := t.Context()
	_, err := b.Put(ctx, "", strings.NewReader(""), 0, objectstore.PutOptions{})
	wantKind(t, err, ci.Invalid)
	_, err = b.Get(ctx, "", 0, -1)
	wantKind(t, err, ci.Invalid)
	_, err = b.Get(ctx, b.prefix+"x", -1, -1)
	wantKind(t, err, ci.Invalid)
	_, err = b.Stat(ctx, "")
	wantKind(t, err, ci.Invalid)
	wantKind(t, b.Delete(ctx, ""), ci.Invalid)
	_, err = b.URL(ctx, "", time.Hour)
	wantKind(t, err, ci.Invalid)
	_, err = b.PutURL(ctx, "x", 30*24*time.Hour)
	wantKind(t, err, ci.Invalid)
}

func testCanceled(t *testing.T, b bucket) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.Stat(ctx, b.prefix+"x")
	wantKind(t, err, ci.Canceled)
	_, err = b.Put(ctx, b.prefix+"x", strings.NewReader("x"), 1, objectstore.PutOptions{})
	wantKind(t, err, ci.Canceled)
}
