package s3gate_test

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/slipway-ci/slipway/shared/objectstore"
)

// key leaves an empty key what it is: an error.
func (b below) key(key string) string {
	if key == "" {
		return ""
	}
	return b.at + key
}

func (b below) Put(ctx context.Context, key string, r io.Reader, size int64, opt objectstore.PutOptions) (string, error) {
	return b.S3.Put(ctx, b.key(key), r, size, opt)
}

func (b below) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	return b.S3.Get(ctx, b.key(key), off, n)
}

func (b below) Stat(ctx context.Context, key string) (objectstore.Object, error) {
	o, err := b.S3.Stat(ctx, b.key(key))
	o.Key = strings.TrimPrefix(o.Key, b.at)
	return o, err
}

func (b below) List(ctx context.Context, prefix, after string) ([]objectstore.Object, error) {
	if after != "" {
		after = b.at + after
	}
	objects, err := b.S3.List(ctx, b.at+prefix, after)
	for i := range objects {
		objects[i].Key = strings.TrimPrefix(objects[i].Key, b.at)
	}
	return objects, err
}

func (b below) Delete(ctx context.Context, keys ...string) error {
	var whole []string
	for _, key := range keys {
		whole = append(whole, b.key(key))
	}
	return b.S3.Delete(ctx, whole...)
}

func (b below) URL(ctx context.Context, key string, ttl time.Duration) (string, error) {
	return b.S3.URL(ctx, b.key(key), ttl)
}

func (b below) PutURL(ctx context.Context, key string, ttl time.Duration) (string, error) {
	return b.S3.PutURL(ctx, b.key(key), ttl)
}
