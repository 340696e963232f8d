package s3gate_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sort"
	"strings"
	"testing"
	"time"
)

// signer signs as a client does, written apart from what it tests.
type signer struct {
	access, secret string
	now            time.Time
}

func theStep() signer { return signer{access, secret, time.Now()} }

func (s signer) stamp() string { return s.now.UTC().Format("20060102T150405Z") }
func (s signer) scope() string { return s.stamp()[:8] + "/eu-test-1/s3/aws4_request" }

func (s signer) mac(text string) string {
	key := []byte("AWS4" + s.secret)
	for _, part := range append(strings.Split(s.scope(), "/"), text) {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(part))
		key = h.Sum(nil)
	}
	return hex.EncodeToString(key)
}

func hashOf(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }

// canonical is the request's canonical form; its path and query are taken as
// they are spelled.
func (s signer) canonical(r *http.Request, names []string, payload string) string {
	query := strings.Split(r.URL.RawQuery, "&")
	for i, pair := range query {
		if pair != "" && !strings.Contains(pair, "=") {
			query[i] += "="
		}
	}
	sort.Strings(query)
	var headers strings.Builder
	for _, name := range names {
		value := r.Header.Get(name)
		if name == "host" {
			value = r.URL.Host
		}
		headers.WriteString(name + ":" + value + "\n")
	}
	return strings.Join([]string{r.Method, r.URL.EscapedPath(), strings.Join(query, "&"), headers.String(), strings.Join(names, ";"), payload}, "\n")
}

func (s signer) signature(canonical string) string {
	return s.mac("AWS4-HMAC-SHA256\n" + s.stamp() + "\n" + s.scope() + "\n" + hashOf(canonical))
}

// sign adds the header form and returns the signature.
func (s signer) sign(r *http.Request, payload string) string {
	r.Header.Set("X-Amz-Date", s.stamp())
	r.Header.Set("X-Amz-Content-Sha256", payload)
	names := []string{"host"}
	for name := range r.Header {
		names = append(names, strings.ToLower(name))
	}
	sort.Strings(names)
	signature := s.signature(s.canonical(r, names, payload))
	r.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s", s.access, s.scope(), strings.Join(names, ";"), signature))
	return signature
}

// presign adds the query form.
func (s signer) presign(r *http.Request, expires string) {
	extra := url.Values{
		"X-Amz-Algorithm": {"AWS4-HMAC-SHA256"}, "X-Amz-Credential": {s.access + "/" + s.scope()},
		"X-Amz-Date": {s.stamp()}, "X-Amz-Expires": {expires}, "X-Amz-SignedHeaders": {"host"},
	}.Encode()
	r.URL.RawQuery = strings.TrimPrefix(r.URL.RawQuery+"&"+extra, "&")
	r.URL.RawQuery += "&X-Amz-Signature=" + s.signature(s.canonical(r, []string{"host"}, "UNSIGNED-PAYLOAD"))
}

// chunked writes a body in signed chunks behind the seed signature.
func (s signer) chunked(w io.Writer, seed string, pieces ...string) error {
	for _, piece := range append(pieces, "") {
		text := "AWS4-HMAC-SHA256-PAYLOAD\n" + s.stamp() + "\n" + s.scope() + "\n" + seed + "\n" + hashOf("") + "\n" + hashOf(piece)
		seed = s.mac(text)
		if _, err := fmt.Fprintf(w, "%x;chunk-signature=%s\r\n%s\r\n", len(piece), seed, piece); err != nil {
			return err
		}
	}
	return nil
}

const streaming = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"

// request makes a request for a raw path and query, with pairs of headers.
func request(t *testing.T, method, target, body string, headers ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

// do sends a request and returns status and body.
func do(t *testing.T, r *http.Request) (int, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
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

// wantCode sends a request and wants the S3 error code, or "" for success.
func wantCode(t *testing.T, name string, r *http.Request, code string) {
	t.Helper()
	status, body := do(t, r)
	switch {
	case code == "" && status/100 != 2:
		t.Errorf("%s: %d %s", name, status, body)
	case code != "" && (status/100 == 2 || !strings.Contains(body, "<Code>"+code+"</Code>")):
		t.Errorf("%s: want %s, got %d %s", name, code, status, body)
	}
}
