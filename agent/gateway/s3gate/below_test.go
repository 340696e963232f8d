package s3gate_test

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/slipway-ci/slipway/shared/objectstore"
)

func (b below) Put(ctx context.Context, key string, r io.Reader, size int64, opt objectstore.PutOptions) (string, error) {
	return b.S3.Put(ctx, b.at+key, r, size, opt)
}

func (b below) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	return b.S3.Get(ctx, b.at+key, off, n)
}

func (b below) Stat(ctx context.Context, key string) (objectstore.Object, error) {
	o, err := b.S3.Stat(ctx, b.at+key)
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
		whole = append(whole, b.at+key)
	}
	return b.S3.Delete(ctx, whole...)
}

func (b below) URL(ctx context.Context, key string, ttl time.Duration) (string, error) {
	return b.S3.URL(ctx, b.at+key, ttl)
}

func (b below) PutURL(ctx context.Context, key string, ttl time.Duration) (string, error) {
	return b.S3.PutURL(ctx, b.at+key, ttl)
}
