package s3gate

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// The examples of the S3 manual, which every client library was made after.
const (
	exampleKey    = "AKIAIOSFODNN7EXAMPLE"
	exampleSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	exampleHost   = "examplebucket.s3.amazonaws.com"
	emptyHash     = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

func exampleGate(t *testing.T) *Gate {
	t.Helper()
	g := New(Config{Now: func() time.Time { return time.Date(2013, 5, 24, 0, 1, 0, 0, time.UTC) }})
	err := g.Add(Grant{AttemptID: "a", AccessKey: exampleKey, SecretKey: exampleSecret, Bucket: "examplebucket", Prefix: "p"})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func authorization(signed, signature string) string {
	return "AWS4-HMAC-SHA256 Credential=" + exampleKey + "/20130524/us-east-1/s3/aws4_request,SignedHeaders=" + signed + ",Signature=" + signature
}

func exampleRequest(method, target string, headers ...string) *http.Request {
	r := httptest.NewRequestWithContext(context.Background(), method, target, nil)
	r.Host = exampleHost
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

func TestManualExamples(t *testing.T) {
	const date = "20130524T000000Z"
	for name, r := range map[string]*http.Request{
		"get object": exampleRequest("GET", "/test.txt", "Range", "bytes=0-9", "x-amz-content-sha256", emptyHash, "x-amz-date", date,
			"Authorization", authorization("host;range;x-amz-content-sha256;x-amz-date", "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41")),
		"put object": exampleRequest("PUT", "/test$file.text", "Date", "Fri, 24 May 2013 00:00:00 GMT", "x-amz-date", date, "x-amz-storage-class", "REDUCED_REDUNDANCY",
			"x-amz-content-sha256", "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
			"Authorization", authorization("date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class", "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd")),
		"lifecycle": exampleRequest("GET", "/?lifecycle", "x-amz-content-sha256", emptyHash, "x-amz-date", date,
			"Authorization", authorization("host;x-amz-content-sha256;x-amz-date", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543")),
		"list": exampleRequest("GET", "/?max-keys=2&prefix=J", "x-amz-content-sha256", emptyHash, "x-amz-date", date,
			"Authorization", authorization("host;x-amz-content-sha256;x-amz-date", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7")),
		"presigned": exampleRequest("GET", "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential="+exampleKey+"%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date="+date+
			"&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"),
	} {
		if _, err := exampleGate(t).authenticate(r, r.URL.Query()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		r.Method = "DELETE"
		if _, err := exampleGate(t).authenticate(r, r.URL.Query()); err == nil || asRefusal(err).code != "SignatureDoesNotMatch" {
			t.Errorf("%s with another method: %v", name, err)
		}
	}
}

var (
	exampleChunks = chunk("10000", "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648", 65536) +
		chunk("400", "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497", 1024) +
		chunk("0", "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9", 0)
	exampleTrailed = chunk("10000", "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2", 65536) +
		chunk("400", "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7", 1024) +
		"0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n" +
		"x-amz-checksum-crc32c:sOO8/Q==\r\n" +
		"x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"
)

func chunk(size, signature string, n int) string {
	return size + ";chunk-signature=" + signature + "\r\n" + strings.Repeat("a", n) + "\r\n"
}

func chunkedRequest(payload, signed, signature, body string, more ...string) *http.Request {
	r := exampleRequest("PUT", "/examplebucket/chunkObject.txt", append([]string{
		"x-amz-date", "20130524T000000Z", "x-amz-storage-class", "REDUCED_REDUNDANCY", "Content-Encoding", "aws-chunked",
		"x-amz-decoded-content-length", "66560", "x-amz-content-sha256", payload, "Authorization", authorization(signed, signature),
	}, more...)...)
	r.Host, r.Body, r.ContentLength = "s3.amazonaws.com", io.NopCloser(strings.NewReader(body)), 66824
	return r
}

func chunksOf(body string) *http.Request {
	return chunkedRequest("STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
		"content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class",
		"4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9", body)
}

func trailedOf(body string) *http.Request {
	return chunkedRequest("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
		"content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer",
		"106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e", body, "x-amz-trailer", "x-amz-checksum-crc32c")
}

// decode returns what a store would have got, and the error that would have
// kept it from being an object.
func decode(t *testing.T, r *http.Request) (string, error) {
	t.Helper()
	by, err := exampleGate(t).authenticate(r, r.URL.Query())
	if err != nil {
		t.Fatal(err)
	}
	b, _, err := newBody(r, by)
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(b)
	if err != nil && !errors.Is(b.failure(), err) {
		t.Errorf("the body forgot its failure %v", err)
	}
	return string(data), err
}

func TestManualChunks(t *testing.T) {
	plain := strings.Repeat("a", 66560)
	for name, r := range map[string]*http.Request{
		"signed": chunksOf(exampleChunks), "one more line": chunksOf(exampleChunks + "\r\n"), "without the last line": chunksOf(strings.TrimSuffix(exampleChunks, "\r\n")),
		"trailer": trailedOf(exampleTrailed), "bare line feeds": trailedOf(strings.ReplaceAll(exampleTrailed, "==\r\n", "==\n\r\n")),
	} {
		if got, err := decode(t, r); err != nil || got != plain {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

func TestBadChunks(t *testing.T) {
	change := func(s, from, to string) string {
		if !strings.Contains(s, from) {
			t.Fatalf("the example has no %q", from)
		}
		return strings.Replace(s, from, to, 1)
	}
	const badSignature, badForm, short = "SignatureDoesNotMatch", "InvalidRequest", "IncompleteBody"
	for name, tt := range map[string]struct {
		r    *http.Request
		want string
	}{
		"a byte":                {chunksOf(change(exampleChunks, "aaaa", "aaba")), badSignature},
		"a byte of the last":    {chunksOf(change(exampleChunks, "a\r\n0;", "b\r\n0;")), badSignature},
		"a signature":           {chunksOf(change(exampleChunks, "ad80", "ad81")), badSignature},
		"the last signature":    {chunksOf(change(exampleChunks, "b6c6", "b6c7")), badSignature},
		"no signature":          {chunksOf(change(exampleChunks, ";chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648", "")), badForm},
		"no last chunk":         {chunksOf(exampleChunks[:len(exampleChunks)-len(chunk("0", emptyHash, 0))]), short},
		"cut in a chunk":        {chunksOf(exampleChunks[:1000]), short},
		"no size":               {chunksOf(change(exampleChunks, "10000;", "x;")), badForm},
		"a huge size":           {chunksOf(change(exampleChunks, "10000;", "ffffffffffffffffff;")), badForm},
		"a negative size":       {chunksOf(change(exampleChunks, "10000;", "-1;")), badForm},
		"a long line":           {chunksOf(strings.Repeat("0", 5000) + exampleChunks), badForm},
		"more behind":           {chunksOf(exampleChunks + "more"), badForm},
		"a longer chunk":        {chunksOf(change(exampleChunks, "aaaa\r\n400", "aaaaa\r\n400")), badForm},
		"an unknown trailer":    {chunksOf(strings.TrimSuffix(exampleChunks, "\r\n") + "x-amz-meta-a:b\r\n\r\n"), badForm},
		"trailer: checksum":     {trailedOf(change(exampleTrailed, "sOO8", "sOO9")), badSignature},
		"trailer: signature":    {trailedOf(change(exampleTrailed, "d81f", "d81e")), badSignature},
		"trailer: no signature": {trailedOf(exampleTrailed[:strings.Index(exampleTrailed, "x-amz-trailer-")] + "\r\n"), badSignature},
		"trailer: none":         {trailedOf(exampleTrailed[:strings.Index(exampleTrailed, "x-amz-checksum")] + "\r\n"), badForm},
		"trailer: another":      {trailedOf(change(exampleTrailed, "x-amz-checksum-crc32c", "x-amz-meta-name")), badForm},
	} {
		got, err := decode(t, tt.r)
		if err == nil || asRefusal(err).code != tt.want {
			t.Errorf("%s: want %s, got %v", name, tt.want, err)
		}
		if len(got) >= 66560 {
			t.Errorf("%s: the store gets the whole body", name)
		}
	}
}
