package objectstore

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/slipway-ci/slipway/shared/ci"
)

const payloadHeader = "X-Amz-Content-Sha256"

// Do sends a plain S3 request to the store under this bucket's credentials:
// method, query, headers, body and length are those of req, whose URL path is
// /<bucket>/<key>, whatever its host. A header X-Amz-Content-Sha256 is the
// body's hash; without one the body goes unsigned. Nothing is retried, since
// the body streams. The caller closes the response's body. An answer of the
// store, even a refusal, is no error.
func (s *S3) Do(ctx context.Context, req *http.Request) (*http.Response, error) {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "/")
	if bucket != s.bucket {
		return nil, ci.Errorf(ci.Forbidden, "cannot forward %s %s: only bucket %s is served here", req.Method, req.URL.Path, s.bucket)
	}
	out := req.Clone(ctx)
	out.RequestURI = ""
	out.URL = s.target(key, req.URL.RawQuery)
	out.Host = out.URL.Host
	out.Header.Del("Authorization")
	hash := out.Header.Get(payloadHeader)
	if hash == "" {
		hash = "UNSIGNED-PAYLOAD"
		out.Header.Set(payloadHeader, hash)
	}
	creds, err := s.creds.Retrieve(ctx)
	if err != nil {
		return nil, ci.Errorf(ci.Unavailable, "cannot sign a request for bucket %s: %w", s.bucket, err)
	}
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	if err = signer.SignHTTP(ctx, creds, out, hash, "s3", s.region, time.Now()); err != nil {
		return nil, ci.Errorf(ci.Internal, "cannot sign a request for bucket %s: %w", s.bucket, err)
	}
	resp, err := s.http.Do(out)
	if err != nil {
		return nil, s.fail(strings.ToLower(req.Method), key, err)
	}
	return resp, nil
}

// target spells the object's address as S3 canonicalises it, so that what is
// signed is what is sent.
func (s *S3) target(key, query string) *url.URL {
	u := *s.base
	path := key
	if s.path {
		path = s.bucket
		if key != "" {
			path += "/" + key
		}
	} else {
		u.Host = s.bucket + "." + u.Host
	}
	u.Path = "/" + path
	u.RawPath = escapePath(u.Path)
	u.RawQuery = query
	return &u
}

// escapePath leaves only the unreserved characters and the slash alone.
func escapePath(path string) string {
	const upper = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(path) {
		c := path[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~/", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'%', upper[c>>4], upper[c&15]})
	}
	return b.String()
}
