package s3gate

import (
	"crypto/hmac"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

const (
	maxSkew     = 15 * time.Minute
	maxLifetime = 7 * 24 * time.Hour
	unsigned    = "UNSIGNED-PAYLOAD"
)

// caller is a request whose signature holds.
type caller struct {
	*grant
	payload   string // x-amz-content-sha256, or unsigned
	signature string // the first of a chain, if the body has one
	scope     scope
	when      string
	key       []byte
}

// claim is what a request says of its signature, in a header or in its query.
type claim struct {
	accessKey string
	scope     scope
	signed    []string
	signature string
	when      string
	payload   string
	lifetime  time.Duration // of a presigned URL; 0 for a header
}

// authenticate finds out who sends a request, and checks that nobody changed
// it and that it is fresh.
func (g *Gate) authenticate(r *http.Request, query url.Values) (*caller, error) {
	c, err := readClaim(r, query)
	if err != nil {
		return nil, err
	}
	grant := g.lookup(c.accessKey)
	if grant == nil {
		return nil, refuse(http.StatusForbidden, "InvalidAccessKeyId", "The access key is unknown here; it is good for one attempt of a step, until that ends.")
	}
	when, err := time.Parse(timeForm, c.when)
	if err != nil {
		return nil, denied("X-Amz-Date is missing or malformed.")
	}
	if when.Format(dateForm) != c.scope.date {
		return nil, denied("The date of the credential scope is not that of the request.")
	}
	if err := c.checkSigned(r); err != nil {
		return nil, err
	}
	key := c.scope.signingKey(grant.SecretKey)
	if !c.holds(r, query, key) {
		return nil, refuse(http.StatusForbidden, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided.")
	}
	// Only now: an answer about time is for who holds the secret.
	if err := c.checkTime(when, g.cfg.Now()); err != nil {
		return nil, err
	}
	return &caller{grant: grant, payload: c.payload, signature: c.signature, scope: c.scope, when: c.when, key: key}, nil
}

func readClaim(r *http.Request, query url.Values) (*claim, error) {
	header := r.Header.Get("Authorization")
	switch {
	case query.Has("X-Amz-Algorithm") && header != "":
		return nil, invalid("Only one of Authorization and X-Amz-Algorithm may be given.")
	case query.Has("X-Amz-Algorithm"):
		return presignedClaim(r, query)
	case header != "":
		return headerClaim(r, header)
	case query.Has("Signature"):
		return nil, refuse(http.StatusBadRequest, "InvalidRequest", "Only signature version 4 (%s) is supported.", algorithm)
	}
	return nil, denied("Anonymous access is not allowed; sign the request with the step's AWS_ACCESS_KEY_ID.")
}

func headerClaim(r *http.Request, header string) (*claim, error) {
	rest, ok := strings.CutPrefix(header, algorithm+" ")
	if !ok {
		return nil, refuse(http.StatusBadRequest, "InvalidRequest", "Only signature version 4 (%s) is supported.", algorithm)
	}
	fields := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[name] = value
	}
	c := &claim{signature: fields["Signature"], when: r.Header.Get("X-Amz-Date"), payload: r.Header.Get("X-Amz-Content-Sha256")}
	if c.when == "" {
		if date, err := http.ParseTime(r.Header.Get("Date")); err == nil {
			c.when = date.UTC().Format(timeForm)
		}
	}
	if c.payload == "" {
		return nil, invalid("Missing required header for this request: x-amz-content-sha256.")
	}
	return c, c.parse(fields["Credential"], fields["SignedHeaders"])
}

func presignedClaim(r *http.Request, query url.Values) (*claim, error) {
	malformed := func(what string) error {
		return refuse(http.StatusBadRequest, "AuthorizationQueryParametersError", "%s is missing or malformed.", what)
	}
	for name, values := range query {
		if strings.HasPrefix(name, "X-Amz-") && len(values) != 1 {
			return nil, malformed(name)
		}
	}
	if query.Get("X-Amz-Algorithm") != algorithm {
		return nil, malformed("X-Amz-Algorithm")
	}
	seconds, err := strconv.ParseInt(query.Get("X-Amz-Expires"), 10, 32)
	lifetime := time.Duration(seconds) * time.Second
	if err != nil || lifetime <= 0 || lifetime > maxLifetime {
		return nil, malformed("X-Amz-Expires (1 to 604800 seconds)")
	}
	c := &claim{signature: query.Get("X-Amz-Signature"), when: query.Get("X-Amz-Date"), payload: unsigned, lifetime: lifetime}
	if hash := query.Get("X-Amz-Content-Sha256"); hash != "" {
		c.payload = hash
	}
	if err := c.parse(query.Get("X-Amz-Credential"), query.Get("X-Amz-SignedHeaders")); err != nil {
		return nil, err
	}
	if slices.Contains(c.signed, "x-amz-content-sha256") {
		c.payload = r.Header.Get("X-Amz-Content-Sha256")
	}
	return c, nil
}

func (c *claim) parse(credential, signed string) error {
	// An access key may hold slashes, the scope has four parts.
	parts := strings.Split(credential, "/")
	n := len(parts)
	if n < 5 || parts[n-1] != "aws4_request" || parts[n-2] != "s3" || signed == "" || c.signature == "" {
		return refuse(http.StatusBadRequest, "AuthorizationHeaderMalformed", "The authorization needs Credential=KEY/DATE/REGION/s3/aws4_request, SignedHeaders and Signature.")
	}
	c.accessKey = strings.Join(parts[:n-4], "/")
	c.scope = scope{date: parts[n-4], region: parts[n-3], service: parts[n-2]}
	c.signed = strings.Split(signed, ";")
	if !sort.StringsAreSorted(c.signed) || strings.ToLower(signed) != signed {
		return refuse(http.StatusBadRequest, "AuthorizationHeaderMalformed", "SignedHeaders must be in lower case and sorted.")
	}
	return nil
}

// checkSigned insists that the host and everything S3 acts upon is signed.
func (c *claim) checkSigned(r *http.Request) error {
	if !slices.Contains(c.signed, "host") {
		return denied("The Host header must be signed.")
	}
	for name := range r.Header {
		lower := strings.ToLower(name)
		if !strings.HasPrefix(lower, "x-amz-") || slices.Contains(c.signed, lower) {
			continue
		}
		// A presigned URL's body is not part of what was signed.
		if c.lifetime > 0 && lower == "x-amz-content-sha256" && r.Header.Get(name) == unsigned {
			continue
		}
		return denied("There were headers present in the request which were not signed: %s.", lower)
	}
	return nil
}

// holds compares signatures. Clients disagree on how much of a path is encoded
// to be signed: S3's own spelling comes first, then the path as it was sent.
func (c *claim) holds(r *http.Request, query url.Values, key []byte) bool {
	raw, _, _ := strings.Cut(r.RequestURI, "?")
	for _, path := range []string{escape(r.URL.Path, true), raw} {
		text := stringToSign(c.when, c.scope, canonicalRequest(r, path, query, c.signed, c.payload))
		if hmac.Equal([]byte(hexOf(hmac256(key, text))), []byte(c.signature)) {
			return true
		}
	}
	return false
}

func (c *claim) checkTime(when, now time.Time) error {
	if c.lifetime == 0 {
		if skew := now.Sub(when).Abs(); skew > maxSkew {
			return refuse(http.StatusForbidden, "RequestTimeTooSkewed", "The difference between the request time and the server's time is too large: %s against %s.", c.when, now.UTC().Format(timeForm))
		}
		return nil
	}
	if when.Sub(now) > maxSkew {
		return denied("Request is not yet valid.")
	}
	if now.After(when.Add(c.lifetime)) {
		return denied("Request has expired.")
	}
	return nil
}
