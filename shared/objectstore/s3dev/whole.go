package s3dev

import (
	"errors"
	"io"

	"github.com/versity/versitygw/s3api/middlewares"
	"github.com/versity/versitygw/s3err"
)

// whole fails a body that ends before its announced length. The HTTP library
// below takes the end of a broken connection for the end of the body, so the
// server would keep half an object where its client died or thought better.
func whole(body io.Reader, length *int64) io.Reader {
	if length == nil || body == nil {
		return body
	}
	e := &exact{body, *length}
	if sum, ok := body.(middlewares.ChecksumReader); ok {
		return exactSum{e, sum}
	}
	return e
}

// exactSum still has the checksum that the server asks its bodies for.
type exactSum struct {
	*exact
	sum middlewares.ChecksumReader
}

func (e exactSum) Algorithm() string { return e.sum.Algorithm() }
func (e exactSum) Checksum() string  { return e.sum.Checksum() }

type exact struct {
	io.Reader
	left int64
}

func (e *exact) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	e.left -= int64(n)
	if err == nil || errors.Is(err, io.EOF) && e.left <= 0 {
		return n, err
	}
	var known s3err.S3Error
	if errors.As(err, &known) {
		return n, err
	}
	// Whatever went wrong was on the client's side of the connection.
	return n, s3err.GetAPIError(s3err.ErrIncompleteBody)
}
