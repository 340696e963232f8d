package objectstore

import (
	"context"
	"errors"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"

	"github.com/slipway-ci/slipway/shared/ci"
)

var errSize = errors.New("the data is not as long as announced")

// Put implements Bucket. Up to 8 MiB go in one request, more in parts of 8 MiB,
// three at a time.
func (s *S3) Put(ctx context.Context, key string, r io.Reader, size int64, opt PutOptions) (string, error) {
	if key == "" {
		return "", ci.Errorf(ci.Invalid, "cannot put %s: the key is empty", s.at(key))
	}
	data := &sized{r: r, left: size, known: size >= 0}
	in := &transfermanager.UploadObjectInput{
		Bucket: &s.bucket, Key: &key,
		Body:        data,
		ContentType: aws.String("application/octet-stream"),
	}
	if opt.ContentType != "" {
		in.ContentType = &opt.ContentType
	}
	if size > 0 {
		// Only a known size lets the part size grow past 80 GB.
		in.ContentLength = &size
	}
	if opt.IfNoneMatch {
		in.IfNoneMatch = aws.String("*")
	}
	out, err := s.upload.UploadObject(ctx, in)
	if errors.Is(err, errSize) {
		return "", ci.Errorf(ci.Invalid, "cannot put %s of %d bytes: %w", s.at(key), size, errSize)
	}
	if err != nil && data.err != nil {
		return "", ci.Errorf(ci.KindOf(data.err), "cannot put %s: cannot read the data to upload: %w", s.at(key), data.err)
	}
	if err != nil {
		return "", s.fail("put", key, err)
	}
	return aws.ToString(out.ETag), nil
}

// sized fails a read before the end of a body that turns out longer or shorter
// than announced, so that no such object comes into being.
type sized struct {
	r     io.Reader
	left  int64
	known bool
	err   error // of r, kept so that it is not taken for the store's
}

func (s *sized) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	if !s.known {
		return n, err
	}
	s.left -= int64(n)
	if s.left < 0 || errors.Is(err, io.EOF) && s.left > 0 {
		return 0, errSize
	}
	return n, err
}
