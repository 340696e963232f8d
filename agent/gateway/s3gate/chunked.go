package s3gate

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// streamMode is a form of aws-chunked body.
type streamMode struct{ signed, trailer bool }

var streamModes = map[string]streamMode{
	"STREAMING-AWS4-HMAC-SHA256-PAYLOAD":         {signed: true},
	"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER": {signed: true, trailer: true},
	"STREAMING-UNSIGNED-PAYLOAD-TRAILER":         {trailer: true},
}

const (
	trailerSignature = "x-amz-trailer-signature"
	maxChunkLine     = 4 << 10
)

// chunks decodes an aws-chunked body. Each chunk's signature covers the one
// before it, the first one that of the request:
//
//	<hex size>[;chunk-signature=<sig>] CRLF <bytes> CRLF ... 0[;chunk-signature=<sig>] CRLF
//	[<trailer>:<value> CRLF ... [x-amz-trailer-signature:<sig> CRLF]] CRLF
type chunks struct {
	src   *bufio.Reader
	mode  streamMode
	by    *caller
	names []string // trailers that must come
	left  int64    // plain bytes not yet seen

	previous  string // signature
	signature string // of the current chunk
	chunkLeft int64
	sum       hash.Hash
}

func newChunks(r io.Reader, by *caller, mode streamMode, length int64, names []string) *chunks {
	return &chunks{
		src: bufio.NewReaderSize(r, maxChunkLine), mode: mode, by: by, names: names,
		left: length, previous: by.signature, sum: sha256.New(),
	}
}

// Read implements io.Reader. A chunk's last bytes are handed out only when its
// signature holds.
func (c *chunks) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	if c.chunkLeft == 0 {
		if err := c.begin(); err != nil {
			return 0, err
		}
		if c.chunkLeft == 0 || c.chunkLeft > c.left {
			return 0, malformed("the chunks do not add up to x-amz-decoded-content-length")
		}
	}
	n, err := c.src.Read(p[:min(int64(len(p)), c.chunkLeft)])
	c.chunkLeft -= int64(n)
	c.left -= int64(n)
	c.sum.Write(p[:n])
	switch {
	case c.chunkLeft == 0 && n > 0:
		err = c.end()
	case errors.Is(err, io.EOF):
		err = incomplete()
	}
	return n, err
}

// begin reads a chunk's head.
func (c *chunks) begin() error {
	line, err := c.line()
	if err != nil {
		return err
	}
	size, extension, _ := strings.Cut(line, ";")
	n, err := strconv.ParseUint(size, 16, 62)
	if err != nil {
		return malformed("a chunk has no size")
	}
	signature, signed := strings.CutPrefix(extension, "chunk-signature=")
	if signed != c.mode.signed {
		return malformed("a chunk lacks its signature, or has one that was not announced")
	}
	c.chunkLeft, c.signature = int64(n), signature
	c.sum.Reset()
	return nil
}

// end reads what follows a chunk's bytes and checks its signature.
func (c *chunks) end() error {
	if line, err := c.line(); err != nil || line != "" {
		return malformed("a chunk is longer than its size")
	}
	return c.verify()
}

func (c *chunks) verify() error {
	if !c.mode.signed {
		return nil
	}
	return c.sign(algorithm+"-PAYLOAD", hexHash(nil)+"\n"+hexOf(c.sum.Sum(nil)), c.signature)
}

// sign compares a signature with what it must be, and makes it the previous one.
func (c *chunks) sign(kind, hashes, signature string) error {
	text := kind + "\n" + c.by.when + "\n" + c.by.scope.String() + "\n" + c.previous + "\n" + hashes
	if !hmac.Equal([]byte(hexOf(hmac256(c.by.key, text))), []byte(signature)) {
		return refuse(http.StatusForbidden, "SignatureDoesNotMatch", "A signature in the body does not match the one we calculated.")
	}
	c.previous = signature
	return nil
}

// finish implements source: the chunk of no bytes, and the trailers.
func (c *chunks) finish() (map[string]string, error) {
	if err := c.begin(); err != nil {
		return nil, err
	}
	if c.chunkLeft != 0 {
		return nil, malformed("the chunks hold more than x-amz-decoded-content-length")
	}
	if err := c.verify(); err != nil {
		return nil, err
	}
	trailers, err := c.trailers()
	if err != nil {
		return nil, err
	}
	// Clients differ in how many empty lines they end with.
	rest, err := io.ReadAll(io.LimitReader(c.src, maxChunkLine))
	if err != nil || strings.Trim(string(rest), "\r\n") != "" {
		return nil, malformed("something follows the last chunk")
	}
	return trailers, nil
}

func (c *chunks) trailers() (map[string]string, error) {
	found := map[string]string{}
	signed, signature := "", ""
	mustSign := c.mode.signed && c.mode.trailer
	for {
		line, err := c.line()
		if err != nil && asRefusal(err).code != "IncompleteBody" {
			return nil, err
		}
		complete := len(found) == len(c.names) && (signature != "" || !mustSign)
		// Some clients leave out the last empty line, some have more of them.
		if err != nil || line == "" && complete {
			break
		}
		if line == "" {
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		switch {
		case name == trailerSignature && mustSign:
			signature = value
		case slices.Contains(c.names, name):
			found[name] = value
			signed += name + ":" + value + "\n"
		default:
			return nil, malformed("a trailer was not announced")
		}
	}
	if len(found) != len(c.names) {
		return nil, malformed("an announced trailer is missing")
	}
	if mustSign {
		if err := c.sign(algorithm+"-TRAILER", hexHash([]byte(signed)), signature); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// line reads up to a line's end, which some clients write without its CR.
func (c *chunks) line() (string, error) {
	line, err := c.src.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", malformed("a line is too long")
	}
	if err != nil && (!errors.Is(err, io.EOF) || len(line) == 0) {
		return "", incomplete()
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}

func malformed(what string) error {
	return refuse(http.StatusBadRequest, "InvalidRequest", "The aws-chunked body is malformed: %s.", what)
}
