package s3gate

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// passedHeaders go on to the store as they are.
var passedHeaders = []string{
	"cache-control", "content-disposition", "content-language", "content-md5", "content-type", "expires",
	"if-match", "if-modified-since", "if-none-match", "if-unmodified-since", "range",
	"x-amz-copy-source-if-match", "x-amz-copy-source-if-modified-since", "x-amz-copy-source-if-none-match",
	"x-amz-copy-source-if-unmodified-since", "x-amz-copy-source-range", "x-amz-metadata-directive",
}

// spentHeaders are about the way from the client to here and end here.
var spentHeaders = []string{
	"x-amz-checksum-mode", "x-amz-content-sha256", "x-amz-date", "x-amz-decoded-content-length",
	"x-amz-mp-object-size", "x-amz-sdk-checksum-algorithm", "x-amz-security-token", "x-amz-te",
	"x-amz-trailer", "x-amz-user-agent",
	// Checksums are verified here: the store gets plain bytes, so they could
	// not follow a body whose checksum comes at its end.
	"x-amz-checksum-algorithm", "x-amz-checksum-type",
}

// harmless are headers that say only what is so anyway.
var harmless = map[string][]string{
	"x-amz-acl":           {"private", "bucket-owner-full-control"},
	"x-amz-storage-class": {"STANDARD"},
}

// forwardHeaders picks what goes on to the store. A header that would make the
// store do more than keep the object is refused, not dropped in silence.
func forwardHeaders(r *http.Request, c *call, g *grant) (http.Header, error) {
	out := http.Header{}
	for name, values := range r.Header {
		lower := strings.ToLower(name)
		switch {
		case slices.Contains(passedHeaders, lower), strings.HasPrefix(lower, "x-amz-meta-"):
			out[name] = slices.Clone(values)
		case slices.Contains(spentHeaders, lower), strings.HasPrefix(lower, "x-amz-checksum-"):
		case lower == "content-encoding":
			if plain := withoutChunked(values); plain != "" {
				out.Set(name, plain)
			}
		case lower == "x-amz-copy-source":
			source, err := copySource(values, c, g)
			if err != nil {
				return nil, err
			}
			out.Set(name, source)
		case slices.Contains(harmless[lower], r.Header.Get(name)) && len(values) == 1:
		case strings.HasPrefix(lower, "x-amz-"):
			return nil, denied("The header %s: %s is not available to a step.", lower, r.Header.Get(name))
		}
	}
	return out, nil
}

// withoutChunked takes the transfer's own encoding off the object's.
func withoutChunked(values []string) string {
	var keep []string
	for coding := range strings.SplitSeq(strings.Join(values, ","), ",") {
		coding = strings.TrimSpace(coding)
		if coding != "" && !strings.EqualFold(coding, "aws-chunked") {
			keep = append(keep, coding)
		}
	}
	return strings.Join(keep, ",")
}

// copySource checks that a copy reads below the prefix too, and spells the
// source anew, so that what was checked is what the store reads.
func copySource(values []string, c *call, g *grant) (string, error) {
	if len(values) != 1 || c.name != "PutObject" && c.name != "UploadPart" {
		return "", invalid("x-amz-copy-source must be given once, on a PUT.")
	}
	path, version, _ := strings.Cut(values[0], "?")
	if version != "" {
		return "", denied("Copies of object versions are not available to a step.")
	}
	path, err := url.PathUnescape(path)
	if err != nil {
		return "", invalid("x-amz-copy-source is not URL-encoded.")
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if err := checkKey(key); err != nil {
		return "", err
	}
	if bucket != g.Bucket || !g.holds(key) {
		return "", denied("This access key copies only from keys below %s/.", g.Prefix)
	}
	return "/" + escape(bucket+"/"+key, true), nil
}

// hopHeaders belong to one connection and are not handed back to the client.
var hopHeaders = []string{
	"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade",
}

// returnHeaders copies the store's headers into the answer.
func returnHeaders(to, from http.Header) {
	for name, values := range from {
		if !slices.Contains(hopHeaders, name) {
			to[name] = slices.Clone(values)
		}
	}
}
