package objectstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/slipway-ci/slipway/shared/ci"
)

// deleteBatch is the most keys that one DeleteObjects takes.
const deleteBatch = 1000

// Get implements Bucket.
func (s *S3) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if key == "" || off < 0 {
		return nil, ci.Errorf(ci.Invalid, "cannot get %s from %d: a key and an offset of 0 or more are needed", s.at(key), off)
	}
	in := &s3.GetObjectInput{Bucket: &s.bucket, Key: &key}
	switch {
	case n == 0:
		// S3 has no range of no bytes; the object must exist all the same.
		if _, err := s.Stat(ctx, key); err != nil {
			return nil, err
		}
		return io.NopCloser(bytes.NewReader(nil)), nil
	case n > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", off, off+n-1))
	case off > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", off))
	}
	out, err := s.client.GetObject(ctx, in)
	if statusOf(err) == 416 {
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	if err != nil {
		return nil, s.fail("get", key, err)
	}
	return &body{ReadCloser: out.Body, fail: func(err error) error { return s.fail("read", key, err) }}, nil
}

// body gives a broken download the same kind of error as a failed call.
type body struct {
	io.ReadCloser
	fail func(error) error
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.fail(err)
	}
	return n, err
}

// Stat implements Bucket.
func (s *S3) Stat(ctx context.Context, key string) (Object, error) {
	if key == "" {
		return Object{}, ci.Errorf(ci.Invalid, "cannot stat %s: the key is empty", s.at(key))
	}
	out, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.bucket, Key: &key})
	if err != nil {
		return Object{}, s.fail("stat", key, err)
	}
	return Object{
		Key: key, Size: aws.ToInt64(out.ContentLength),
		ETag: aws.ToString(out.ETag), ModTime: aws.ToTime(out.LastModified),
	}, nil
}

// List implements Bucket.
func (s *S3) List(ctx context.Context, prefix, after string) ([]Object, error) {
	var objects []Object
	in := &s3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: &prefix, MaxKeys: aws.Int32(ListPage)}
	if after != "" {
		in.StartAfter = &after
	}
	for {
		out, err := s.client.ListObjectsV2(ctx, in)
		if err != nil {
			return nil, s.fail("list", prefix, err)
		}
		for _, o := range out.Contents {
			objects = append(objects, Object{
				Key: aws.ToString(o.Key), Size: aws.ToInt64(o.Size),
				ETag: aws.ToString(o.ETag), ModTime: aws.ToTime(o.LastModified),
			})
		}
		// A store may cut a page short; callers take a short page for the end.
		if len(objects) >= ListPage || !aws.ToBool(out.IsTruncated) {
			return objects[:min(len(objects), ListPage)], nil
		}
		in.ContinuationToken, in.StartAfter = out.NextContinuationToken, nil
		in.MaxKeys = aws.Int32(int32(ListPage - len(objects)))
	}
}

// Delete implements Bucket.
func (s *S3) Delete(ctx context.Context, keys ...string) error {
	for len(keys) > 0 {
		batch := keys[:min(len(keys), deleteBatch)]
		keys = keys[len(batch):]
		if err := s.deleteSome(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

func (s *S3) deleteSome(ctx context.Context, keys []string) error {
	ids := make([]types.ObjectIdentifier, len(keys))
	for i, key := range keys {
		if key == "" {
			return ci.Errorf(ci.Invalid, "cannot delete %s: the key is empty", s.at(key))
		}
		ids[i].Key = &keys[i]
	}
	if len(keys) == 1 {
		_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.bucket, Key: &keys[0]})
		if err = s.fail("delete", keys[0], err); ci.KindOf(err) == ci.NotFound && !noBucket(err) {
			return nil
		}
		return err
	}
	out, err := s.client.DeleteObjects(ctx, &s3.DeleteObjectsInput{
		Bucket: &s.bucket, Delete: &types.Delete{Objects: ids, Quiet: aws.Bool(true)},
	})
	if err != nil {
		return s.fail("delete", keys[0], err)
	}
	var failed []error
	for _, e := range out.Errors {
		if code := aws.ToString(e.Code); code != "NoSuchKey" {
			failed = append(failed, ci.Errorf(kindOfCode(code, 0), "cannot delete %s: %s: %s",
				s.at(aws.ToString(e.Key)), code, aws.ToString(e.Message)))
		}
	}
	if len(failed) > 0 {
		return ci.Errorf(ci.KindOf(failed[0]), "cannot delete %d of %d objects: %w", len(failed), len(keys), errors.Join(failed...))
	}
	return nil
}

// URL implements Bucket. S3 allows at most seven days.
func (s *S3) URL(ctx context.Context, key string, ttl time.Duration) (string, error) {
	if err := s.checkPresign(key, ttl); err != nil {
		return "", err
	}
	out, err := s.presign.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: &s.bucket, Key: &key}, s3.WithPresignExpires(ttl))
	if err != nil {
		return "", s.fail("sign a link to", key, err)
	}
	return out.URL, nil
}

// PutURL implements Bucket. S3 allows at most seven days.
func (s *S3) PutURL(ctx context.Context, key string, ttl time.Duration) (string, error) {
	if err := s.checkPresign(key, ttl); err != nil {
		return "", err
	}
	out, err := s.presign.PresignPutObject(ctx, &s3.PutObjectInput{Bucket: &s.bucket, Key: &key}, s3.WithPresignExpires(ttl))
	if err != nil {
		return "", s.fail("sign a link to", key, err)
	}
	return out.URL, nil
}

func (s *S3) checkPresign(key string, ttl time.Duration) error {
	if key == "" || ttl < time.Second || ttl > 7*24*time.Hour {
		return ci.Errorf(ci.Invalid, "cannot sign a link to %s for %s: a key and 1 s to 7 days are needed", s.at(key), ttl)
	}
	return nil
}

// at names an object for people.
func (s *S3) at(key string) string {
	return "s3://" + s.bucket + "/" + strings.TrimPrefix(key, "/")
}
