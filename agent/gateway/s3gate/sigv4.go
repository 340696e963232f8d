package s3gate

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
)

const (
	algorithm = "AWS4-HMAC-SHA256"
	timeForm  = "20060102T150405Z"
	dateForm  = "20060102"
)

func hmac256(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func hexOf(b []byte) string { return hex.EncodeToString(b) }

func hexHash(data []byte) string {
	sum := sha256.Sum256(data)
	return hexOf(sum[:])
}

// scope is the part of a credential behind the access key.
type scope struct{ date, region, service string }

func (s scope) String() string { return s.date + "/" + s.region + "/" + s.service + "/aws4_request" }

// signingKey derives the key that signs within the scope.
func (s scope) signingKey(secret string) []byte {
	key := hmac256([]byte("AWS4"+secret), s.date)
	key = hmac256(key, s.region)
	key = hmac256(key, s.service)
	return hmac256(key, "aws4_request")
}

// stringToSign is what a request's signature signs.
func stringToSign(when string, sc scope, canonical string) string {
	return algorithm + "\n" + when + "\n" + sc.String() + "\n" + hexHash([]byte(canonical))
}

// canonicalRequest spells a request the way its client did to sign it.
func canonicalRequest(r *http.Request, path string, query url.Values, signed []string, payload string) string {
	var b strings.Builder
	b.WriteString(r.Method + "\n" + path + "\n" + canonicalQuery(query) + "\n")
	for _, name := range signed {
		b.WriteString(name + ":" + headerValue(r, name) + "\n")
	}
	b.WriteString("\n" + strings.Join(signed, ";") + "\n" + payload)
	return b.String()
}

// headerValue is a header's value in canonical form. Go's server takes three
// of them out of the map.
func headerValue(r *http.Request, name string) string {
	switch name {
	case "host":
		return r.Host
	case "content-length":
		return strconv.FormatInt(max(r.ContentLength, 0), 10)
	case "transfer-encoding":
		return strings.Join(r.TransferEncoding, ",")
	}
	values := slices.Clone(r.Header.Values(name))
	for i, v := range values {
		values[i] = strings.Join(strings.Fields(v), " ")
	}
	return strings.Join(values, ",")
}

// canonicalQuery spells a query in S3's encoding, without its signature.
func canonicalQuery(query url.Values) string {
	var pairs []string
	for name, values := range query {
		if name == "X-Amz-Signature" {
			continue
		}
		for _, value := range values {
			pairs = append(pairs, escape(name, false)+"="+escape(value, false))
		}
	}
	sort.Strings(pairs)
	return strings.Join(pairs, "&")
}

// escape encodes all but unreserved characters, and the slash if it may stay.
func escape(s string, slash bool) string {
	const upper = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		plain := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
		if plain || slash && c == '/' {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'%', upper[c>>4], upper[c&15]})
	}
	return b.String()
}
