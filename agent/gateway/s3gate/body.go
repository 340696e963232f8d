package s3gate

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
)

// nvmePolynomial is CRC-64/NVME's, in the reversed form that hash/crc64 takes.
const nvmePolynomial = 0x9a6c9329ac4bc9b5

var (
	crc32c    = crc32.MakeTable(crc32.Castagnoli)
	crc64nvme = crc64.MakeTable(nvmePolynomial)
)

// checksums are the algorithms that x-amz-checksum-NAME may have.
var checksums = map[string]func() hash.Hash{
	"crc32":     func() hash.Hash { return crc32.NewIEEE() },
	"crc32c":    func() hash.Hash { return crc32.New(crc32c) },
	"crc64nvme": func() hash.Hash { return crc64.New(crc64nvme) },
	"sha1":      sha1.New,
	"sha256":    sha256.New,
}

const checksumPrefix = "x-amz-checksum-"

// source is where a body's plain bytes come from. finish is called once all
// of them are read and returns the trailers behind them.
type source interface {
	io.Reader
	finish() (trailers map[string]string, err error)
}

// body hands out the plain bytes of a request and checks everything its client
// promised about them: chunk signatures, the payload's hash, checksums. It
// keeps the last bytes back until all of it holds, so a store that was told
// the length never completes an object that does not.
type body struct {
	src    source
	left   int64
	sha    hash.Hash // of a signed payload, else nil
	want   string    // its hexadecimal value
	sums   map[string]hash.Hash
	header map[string]string // expected sums known from the start
	failed atomic.Pointer[error]
}

// newBody opens a request's body and tells how many plain bytes it has.
func newBody(r *http.Request, c *caller) (*body, int64, error) {
	b := &body{sums: map[string]hash.Hash{}, header: map[string]string{}}
	for name := range r.Header {
		lower := strings.ToLower(name)
		sum, ok := strings.CutPrefix(lower, checksumPrefix)
		if !ok || sum == "algorithm" || sum == "mode" || sum == "type" {
			continue
		}
		if err := b.addSum(sum); err != nil {
			return nil, 0, err
		}
		b.header[sum] = r.Header.Get(name)
	}
	var err error
	if mode, ok := streamModes[c.payload]; ok {
		err = b.openChunked(r, c, mode)
	} else {
		err = b.openPlain(r, c)
	}
	if err != nil {
		return nil, 0, err
	}
	length := b.left
	if length == 0 {
		// Nobody reads a body of no bytes: check it now.
		err = b.check()
	}
	return b, length, err
}

func (b *body) addSum(name string) error {
	algorithm, ok := checksums[name]
	if !ok {
		return refuse(http.StatusBadRequest, "InvalidRequest", "The checksum algorithm %q is not supported here.", name)
	}
	b.sums[name] = algorithm()
	return nil
}

func (b *body) openPlain(r *http.Request, c *caller) error {
	if r.ContentLength < 0 {
		return refuse(http.StatusLengthRequired, "MissingContentLength", "You must provide the Content-Length HTTP header.")
	}
	b.src, b.left = plain{r.Body}, r.ContentLength
	if c.payload == unsigned {
		return nil
	}
	if sum, err := hex.DecodeString(c.payload); err != nil || len(sum) != sha256.Size {
		return invalid("x-amz-content-sha256 must be UNSIGNED-PAYLOAD, a STREAMING- value or a SHA-256 in hexadecimal.")
	}
	b.sha, b.want = sha256.New(), strings.ToLower(c.payload)
	return nil
}

func (b *body) openChunked(r *http.Request, c *caller, mode streamMode) error {
	length, err := strconv.ParseInt(r.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64)
	if err != nil || length < 0 {
		return refuse(http.StatusLengthRequired, "MissingContentLength", "You must provide the x-amz-decoded-content-length header.")
	}
	var names []string
	for name := range strings.SplitSeq(r.Header.Get("X-Amz-Trailer"), ",") {
		if name = strings.ToLower(strings.TrimSpace(name)); name == "" {
			continue
		}
		sum, ok := strings.CutPrefix(name, checksumPrefix)
		if !ok || !mode.trailer {
			return invalid("The trailer %q is not supported here.", name)
		}
		if err := b.addSum(sum); err != nil {
			return err
		}
		names = append(names, name)
	}
	b.src, b.left = newChunks(r.Body, c, mode, length, names), length
	return nil
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.src.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if b.sha != nil {
		b.sha.Write(p[:n])
	}
	for _, sum := range b.sums {
		sum.Write(p[:n])
	}
	if b.left == 0 {
		err = b.check()
	} else if errors.Is(err, io.EOF) {
		err = incomplete()
	}
	if err != nil {
		b.failed.CompareAndSwap(nil, &err)
		return 0, err
	}
	return n, nil
}

// failure is what a Read has returned, for whoever called the reader: it may
// be lost or dressed up on the way through a transport.
func (b *body) failure() error {
	if err := b.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// check is called when every byte has been read.
func (b *body) check() error {
	trailers, err := b.src.finish()
	if err != nil {
		return err
	}
	if b.sha != nil && !hmac.Equal([]byte(hexOf(b.sha.Sum(nil))), []byte(b.want)) {
		return refuse(http.StatusBadRequest, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed.")
	}
	for name, sum := range b.sums {
		want, ok := b.header[name]
		if !ok {
			want = trailers[checksumPrefix+name]
		}
		if got := base64.StdEncoding.EncodeToString(sum.Sum(nil)); got != want {
			return refuse(http.StatusBadRequest, "BadDigest", "The %s you specified did not match the calculated checksum.", strings.ToUpper(name))
		}
	}
	return nil
}

// plain is a body without an encoding.
type plain struct{ io.Reader }

func (plain) finish() (map[string]string, error) { return nil, nil }

func incomplete() error {
	return refuse(http.StatusBadRequest, "IncompleteBody", "The request body ended before its announced length.")
}
