package s3gate_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-ci/slipway/agent/gateway/s3gate"
	"github.com/slipway-ci/slipway/shared/ci"
)

// fakeStore answers every request, and remembers it.
type fakeStore struct {
	mu     sync.Mutex
	seen   []string
	last   *http.Request
	answer func(r *http.Request) *http.Response
}

func (f *fakeStore) Do(_ context.Context, r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = append(f.seen, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+string(body)))
	f.last = r
	if f.answer != nil {
		return f.answer(r), nil
	}
	return response(http.StatusOK, ""), nil
}

func response(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}

func (f *fakeStore) take() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := f.seen
	f.seen = nil
	return seen
}

func fakeStage(t *testing.T) (*stage, *fakeStore) {
	t.Helper()
	store := &fakeStore{}
	s := &stage{bucket: "bucket"}
	s.serve(t, store)
	return s, store
}

func (s *stage) at(path string) string { return s.endpoint + "/" + s.bucket + "/" + path }

func TestWhoMayCome(t *testing.T) {
	t.Parallel()
	s, store := fakeStage(t)
	url := s.at(prefix + "/file")
	signed := func(by signer, change func(*http.Request)) *http.Request {
		r := request(t, http.MethodGet, url, "", "X-Amz-Meta-A", "b")
		by.sign(r, hashOf(""))
		if change != nil {
			change(r)
		}
		return r
	}
	linked := func(by signer, expires string, change func(*http.Request)) *http.Request {
		r := request(t, http.MethodGet, url, "")
		by.presign(r, expires)
		if change != nil {
			change(r)
		}
		return r
	}
	at := func(d time.Duration) signer { return signer{access, secret, time.Now().Add(d)} }
	const mismatch, denied, skewed = "SignatureDoesNotMatch", "AccessDenied", "RequestTimeTooSkewed"
	for name, tt := range map[string]struct {
		r    *http.Request
		want string
	}{
		"header":           {signed(theStep(), nil), ""},
		"wrong secret":     {signed(signer{access, "other", time.Now()}, nil), mismatch},
		"unknown key":      {signed(signer{"nobody", secret, time.Now()}, nil), "InvalidAccessKeyId"},
		"anonymous":        {request(t, http.MethodGet, url, ""), denied},
		"signature v2":     {request(t, http.MethodGet, url, "", "Authorization", "AWS "+access+":sig"), "InvalidRequest"},
		"no credential":    {request(t, http.MethodGet, url, "", "Authorization", "AWS4-HMAC-SHA256 Signature=a", "X-Amz-Content-Sha256", hashOf("")), "AuthorizationHeaderMalformed"},
		"changed method":   {signed(theStep(), func(r *http.Request) { r.Method = http.MethodDelete }), mismatch},
		"changed path":     {signed(theStep(), func(r *http.Request) { r.URL.Path += "2" }), mismatch},
		"changed query":    {signed(theStep(), func(r *http.Request) { r.URL.RawQuery = "partNumber=1" }), mismatch},
		"changed header":   {signed(theStep(), func(r *http.Request) { r.Header.Set("X-Amz-Meta-A", "c") }), mismatch},
		"added header":     {signed(theStep(), func(r *http.Request) { r.Header.Set("X-Amz-Meta-B", "c") }), denied},
		"added copy":       {signed(theStep(), func(r *http.Request) { r.Header.Set("X-Amz-Copy-Source", "/bucket/x") }), denied},
		"changed host":     {signed(theStep(), func(r *http.Request) { r.Host = "other" }), mismatch},
		"changed date":     {signed(theStep(), func(r *http.Request) { r.Header.Set("X-Amz-Date", at(-time.Minute).stamp()) }), mismatch},
		"14 minutes late":  {signed(at(14*time.Minute), nil), ""},
		"16 minutes early": {signed(at(-16*time.Minute), nil), skewed},
		"16 minutes late":  {signed(at(16*time.Minute), nil), skewed},
		"no date":          {signed(theStep(), func(r *http.Request) { r.Header.Del("X-Amz-Date") }), denied},

		"link":               {linked(theStep(), "60", nil), ""},
		"link, wrong secret": {linked(signer{access, "other", time.Now()}, "60", nil), mismatch},
		"link, unknown key":  {linked(signer{"nobody", secret, time.Now()}, "60", nil), "InvalidAccessKeyId"},
		"link expired":       {linked(at(-2*time.Minute), "60", nil), denied},
		"link not yet valid": {linked(at(20*time.Minute), "60", nil), denied},
		"link of a week":     {linked(at(-100*time.Hour), "604800", nil), ""},
		"link of 8 days":     {linked(theStep(), "691200", nil), "AuthorizationQueryParametersError"},
		"link made longer": {linked(at(-2*time.Minute), "60", func(r *http.Request) {
			r.URL.RawQuery = strings.Replace(r.URL.RawQuery, "Expires=60", "Expires=600", 1)
		}), mismatch},
		"link for another key": {linked(theStep(), "60", func(r *http.Request) { r.URL.Path += "2" }), mismatch},
		"link used to write":   {linked(theStep(), "60", func(r *http.Request) { r.Method = http.MethodPut }), mismatch},
		"link with a header":   {linked(theStep(), "60", func(r *http.Request) { r.Header.Set("X-Amz-Meta-A", "b") }), denied},
		"link and header":      {linked(theStep(), "60", func(r *http.Request) { theStep().sign(r, hashOf("")) }), "InvalidArgument"},
		"link, twice a name":   {linked(theStep(), "60", func(r *http.Request) { r.URL.RawQuery += "&X-Amz-Expires=600" }), "AuthorizationQueryParametersError"},
	} {
		wantCode(t, name, tt.r, tt.want)
		if seen := store.take(); (len(seen) == 1) != (tt.want == "") {
			t.Errorf("%s: the store saw %q", name, seen)
		}
	}
}

func TestGrants(t *testing.T) {
	t.Parallel()
	s, _ := fakeStage(t)
	grant := s3gate.Grant{AttemptID: "two", AccessKey: "TWO", SecretKey: "two", Bucket: "bucket", Prefix: "other/1-8"}
	change := func(edit func(*s3gate.Grant)) s3gate.Grant {
		g := grant
		edit(&g)
		return g
	}
	for name, g := range map[string]s3gate.Grant{
		"no prefix":     change(func(g *s3gate.Grant) { g.Prefix = "" }),
		"a slash":       change(func(g *s3gate.Grant) { g.Prefix = "a/" }),
		"a way up":      change(func(g *s3gate.Grant) { g.Prefix = "a/../b" }),
		"no secret":     change(func(g *s3gate.Grant) { g.SecretKey = "" }),
		"no attempt id": change(func(g *s3gate.Grant) { g.AttemptID = "" }),
	} {
		if err := s.gate.Add(g); ci.KindOf(err) != ci.Invalid || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for range 2 {
		if err := s.gate.Add(grant); err != nil {
			t.Fatal(err)
		}
	}
	for name, g := range map[string]s3gate.Grant{
		"other prefix": change(func(g *s3gate.Grant) { g.Prefix = "x" }),
		"taken key":    change(func(g *s3gate.Grant) { g.AttemptID = "three" }),
	} {
		if err := s.gate.Add(g); ci.KindOf(err) != ci.Conflict {
			t.Errorf("%s: %v", name, err)
		}
	}
	two := signer{"TWO", "two", time.Now()}
	get := func(by signer, path string) *http.Request {
		r := request(t, http.MethodGet, s.at(path), "")
		by.sign(r, hashOf(""))
		return r
	}
	wantCode(t, "own", get(two, "other/1-8/x"), "")
	wantCode(t, "the other's", get(two, prefix+"/x"), "AccessDenied")
	wantCode(t, "the other's back", get(theStep(), "other/1-8/x"), "AccessDenied")
	s.gate.Remove("two")
	s.gate.Remove("two")
	wantCode(t, "over", get(two, "other/1-8/x"), "InvalidAccessKeyId")
	wantCode(t, "not over", get(theStep(), prefix+"/x"), "")
	if err := s.gate.Add(grant); err != nil {
		t.Errorf("adding again after removal: %v", err)
	}
}

func TestOperations(t *testing.T) {
	t.Parallel()
	s, store := fakeStage(t)
	in := "/bucket/" + prefix
	const denied, bad = "AccessDenied", "InvalidArgument"
	for _, tt := range []struct{ method, target, want string }{
		{"GET", in + "/a", ""},
		{"HEAD", in + "/a", ""},
		{"DELETE", in + "/a", ""},
		{"PUT", in + "/a", ""},
		{"PUT", in + "/folder/", ""},
		{"GET", in + "/a?partNumber=2&x-id=GetObject", ""},
		{"PUT", in + "/artifacts/b/c", ""},
		{"PUT", in + "/report.json", ""},
		{"PUT", in + "/complete", ""},
		{"PUT", in + "/log/000001.ndjson.zst", ""},
		{"POST", in + "/a?uploads", ""},
		{"PUT", in + "/a?partNumber=1&uploadId=u", ""},
		{"GET", in + "/a?uploadId=u&max-parts=5", ""},
		{"DELETE", in + "/a?uploadId=u", ""},
		{"GET", "/bucket/?list-type=2&prefix=" + prefix + "/", ""},
		{"GET", "/bucket?prefix=" + prefix + "/log&delimiter=/&marker=m", ""},
		// Outside the prefix.
		{"GET", "/bucket/a", denied},
		{"PUT", in, denied},
		{"PUT", in + "/", denied},
		{"PUT", in + "0/a", denied},
		{"PUT", "/bucket/fleet/cluster/t/acme/r/run/build/1-8/a", denied},
		{"PUT", "/other/" + prefix + "/a", denied},
		{"GET", "/bucket/fleet/cluster/t/other/r/run/build/1-7/a", denied},
		{"DELETE", "/bucket/fleet/cluster.json", denied},
		// The agent's own objects.
		{"PUT", in + "/status.json", denied},
		{"PUT", in + "/state.json", denied},
		{"DELETE", in + "/status.json", denied},
		{"POST", in + "/status.json?uploads", denied},
		{"PUT", in + "/status.json/", denied},
		{"PUT", in + "/status.json/x", denied},
		{"PUT", in + "/status%2ejson", denied},
		{"GET", in + "/status.json", ""},
		{"PUT", in + "/artifacts/status.json", ""},
		// Listings.
		{"GET", "/bucket/", denied},
		{"GET", "/bucket/?list-type=2", denied},
		{"GET", "/bucket/?prefix=", denied},
		{"GET", "/bucket/?prefix=" + prefix, denied},
		{"GET", "/bucket/?list-type=2&prefix=" + prefix + "0/", denied},
		{"GET", "/bucket/?prefix=fleet/", denied},
		{"GET", "/bucket/?prefix=" + prefix + "/../", bad},
		{"GET", "/bucket/?prefix=" + prefix + "/&prefix=", bad},
		{"GET", "/bucket/?prefix=" + prefix + "/&versions", denied},
		// Ways around.
		{"PUT", in + "/../1-8/a", bad},
		{"PUT", in + "/./a", bad},
		{"PUT", in + "//a", bad},
		{"PUT", in + "/a/..", bad},
		{"PUT", in + "/%2e%2e/1-8/a", bad},
		{"PUT", in + "/..%2f1-8/a", bad},
		{"PUT", in + "/%252e%252e/1-8/a", bad},
		{"PUT", in + "/a%252fb", bad},
		{"PUT", in + "/a%5cb", bad},
		{"PUT", in + "/a%00b", bad},
		{"PUT", in + "/a%0ab", bad},
		{"PUT", in + "/%ff", bad},
		{"PUT", "/bucket//" + prefix + "/a", bad},
		{"PUT", "//bucket/" + prefix + "/a", denied},
		{"PUT", "/bucket/../bucket/" + prefix + "/a", bad},
		{"PUT", "/./bucket/" + prefix + "/a", denied},
		{"GET", in + "/a?uploadId=u&uploadId=v", bad},
		// Everything else.
		{"GET", "/", denied},
		{"GET", "/bucket?acl", denied},
		{"GET", "/bucket?policy", denied},
		{"PUT", "/bucket", denied},
		{"DELETE", "/bucket", denied},
		{"PUT", "/bucket?policy", denied},
		{"GET", "/bucket?uploads&prefix=" + prefix + "/", denied},
		{"GET", in + "/a?acl", "NotImplemented"},
		{"GET", in + "0/a?acl", denied},
		{"PUT", in + "/a?acl", denied},
		{"PUT", in + "/a?tagging", denied},
		{"GET", in + "/a?versionId=1", denied},
		{"DELETE", in + "/a?versionId=1", denied},
		{"POST", in + "/a?select&select-type=2", denied},
		{"POST", in + "/a?restore", denied},
		{"OPTIONS", in + "/a", denied},
		{"PATCH", in + "/a", denied},
		{"POST", in + "/a", denied},
	} {
		path, query, _ := strings.Cut(tt.target, "?")
		r := request(t, tt.method, s.endpoint+path, "")
		r.URL.RawQuery = strings.ReplaceAll(query, "/", "%2F")
		theStep().sign(r, hashOf(""))
		if tt.method == "HEAD" {
			if status, _ := do(t, r); status != http.StatusOK {
				t.Errorf("%s %s: %d", tt.method, tt.target, status)
			}
		} else {
			wantCode(t, tt.method+" "+tt.target, r, tt.want)
		}
		if seen := store.take(); (len(seen) == 1) != (tt.want == "") {
			t.Errorf("%s %s: the store saw %q", tt.method, tt.target, seen)
		}
	}
}

func TestAnsweredByTheGate(t *testing.T) {
	t.Parallel()
	s, store := fakeStage(t)
	r := request(t, http.MethodGet, s.endpoint+"/bucket?location", "")
	theStep().sign(r, hashOf(""))
	if status, body := do(t, r); status != http.StatusOK || !strings.Contains(body, "<LocationConstraint") {
		t.Errorf("location: %d %s", status, body)
	}
	for bucket, want := range map[string]int{"bucket": http.StatusOK, "other": http.StatusForbidden} {
		r := request(t, http.MethodHead, s.endpoint+"/"+bucket, "")
		theStep().sign(r, hashOf(""))
		if status, _ := do(t, r); status != want {
			t.Errorf("head %s: %d", bucket, status)
		}
	}
	if seen := store.take(); len(seen) > 0 {
		t.Errorf("the store saw %q", seen)
	}
}

func TestHeadersAndSpelling(t *testing.T) {
	t.Parallel()
	s, store := fakeStage(t)
	const denied, bad = "AccessDenied", "InvalidArgument"
	source := "/bucket/" + prefix + "/a b"
	for name, tt := range map[string]struct{ header, value, want, sent string }{
		"metadata":         {"X-Amz-Meta-Name", "v", "", "v"},
		"type":             {"Content-Type", "text/plain", "", "text/plain"},
		"encoding":         {"Content-Encoding", "aws-chunked, gzip", "", "gzip"},
		"once":             {"If-None-Match", "*", "", "*"},
		"private":          {"X-Amz-Acl", "private", "", ""},
		"standard":         {"X-Amz-Storage-Class", "STANDARD", "", ""},
		"public":           {"X-Amz-Acl", "public-read", denied, ""},
		"glacier":          {"X-Amz-Storage-Class", "GLACIER", denied, ""},
		"tags":             {"X-Amz-Tagging", "a=b", denied, ""},
		"grant":            {"X-Amz-Grant-Read", "id=1", denied, ""},
		"lock":             {"X-Amz-Object-Lock-Mode", "COMPLIANCE", denied, ""},
		"redirect":         {"X-Amz-Website-Redirect-Location", "/", denied, ""},
		"encryption":       {"X-Amz-Server-Side-Encryption", "aws:kms", denied, ""},
		"copy":             {"X-Amz-Copy-Source", source, "", strings.ReplaceAll(source, " ", "%20")},
		"copy, encoded":    {"X-Amz-Copy-Source", strings.ReplaceAll(source[1:], "/", "%2F"), "", strings.ReplaceAll(source, " ", "%20")},
		"copy, outside":    {"X-Amz-Copy-Source", "/bucket/fleet/cluster.json", denied, ""},
		"copy, neighbour":  {"X-Amz-Copy-Source", "/bucket/" + prefix + "0/a", denied, ""},
		"copy, bucket":     {"X-Amz-Copy-Source", "/other/" + prefix + "/a", denied, ""},
		"copy, up":         {"X-Amz-Copy-Source", "/bucket/" + prefix + "/../1-8/a", bad, ""},
		"copy, up encoded": {"X-Amz-Copy-Source", "/bucket/" + prefix + "/%2e%2e/1-8/a", bad, ""},
		"copy, version":    {"X-Amz-Copy-Source", source + "?versionId=1", denied, ""},
		"bad checksum":     {"X-Amz-Checksum-Crc32", "AAAAAQ==", "BadDigest", ""},
		"good checksum":    {"X-Amz-Checksum-Crc32", "AAAAAA==", "", ""},
		"unknown checksum": {"X-Amz-Checksum-Xxhash64", "AAAAAA==", "InvalidRequest", ""},
	} {
		r := request(t, http.MethodPut, s.at(prefix+"/k%20(1)%2B%C3%BC"), "", tt.header, tt.value)
		theStep().sign(r, hashOf(""))
		wantCode(t, name, r, tt.want)
		seen := store.take()
		if tt.want != "" {
			if len(seen) > 0 {
				t.Errorf("%s: the store saw %q", name, seen)
			}
			continue
		}
		if diff := cmp.Diff([]string{"PUT /bucket/" + prefix + "/k%20%281%29%2B%C3%BC"}, seen); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if got := store.last.Header.Get(tt.header); got != tt.sent {
			t.Errorf("%s: sent on %q, want %q", name, got, tt.sent)
		}
		if store.last.Header.Get("Authorization") != "" {
			t.Errorf("%s: the step's signature went to the store", name)
		}
	}
}
