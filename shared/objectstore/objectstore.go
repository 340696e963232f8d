// Package objectstore is a bucket: the one place where everything large lies
// (logs, artifacts, status objects, finished runs). It is the only package
// that knows an S3 client library.
package objectstore

import (
	"context"
	"io"
	"time"
)

// ListPage is the number of objects in a full page of List: a shorter page is
// the last one.
const ListPage = 1000

// PutOptions say how an object is written.
type PutOptions struct {
	// IfNoneMatch writes only when no object has the key; otherwise Put
	// returns ci.Conflict. The conflict may be the echo of the caller's own
	// write whose answer was lost: who needs to know reads the object.
	IfNoneMatch bool
	// ContentType is the MIME type; empty means application/octet-stream.
	ContentType string
}

// Object is what a listing knows of an object.
type Object struct {
	Key     string
	Size    int64 // bytes
	ETag    string
	ModTime time.Time
}

// Bucket stores objects under keys. Keys are whole: no prefix is added or
// taken off. Every error is a ci.Error that names bucket and key: NotFound,
// Conflict, Forbidden, Invalid, or Unavailable when the store does not answer
// or answers with a failure of its own, which is worth a later attempt.
type Bucket interface {
	// Put writes an object of size bytes, -1 for a reader whose size is not
	// known. The object appears whole or not at all. A reader that holds more
	// or less than size is ci.Invalid.
	Put(ctx context.Context, key string, r io.Reader, size int64, opt PutOptions) (etag string, err error)
	// Get reads n bytes from off, to the end when n < 0. A range past the end
	// is cut there; one that begins there is empty.
	Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error)
	// Stat describes one object.
	Stat(ctx context.Context, key string) (Object, error)
	// List returns the objects whose keys begin with prefix and come after the
	// key named after, in byte order of their keys, at most ListPage of them.
	List(ctx context.Context, prefix, after string) ([]Object, error)
	// Delete removes objects; one that is not there is no error.
	Delete(ctx context.Context, keys ...string) error
	// URL returns an address at which anybody can GET the object for ttl.
	URL(ctx context.Context, key string, ttl time.Duration) (string, error)
	// PutURL returns an address at which anybody can PUT the object for ttl.
	PutURL(ctx context.Context, key string, ttl time.Duration) (string, error)
}
