package objectstoretest

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/objectstore"
)

// Fake is a Bucket in memory for other packages' tests. Its URLs begin with
// memory: and lead nowhere.
type Fake struct {
	mu      sync.Mutex
	down    bool
	objects map[string]entry
}

type entry struct {
	data []byte
	info objectstore.Object
}

var _ objectstore.Bucket = (*Fake)(nil)

// Memory returns an empty Fake.
func Memory() *Fake { return &Fake{objects: map[string]entry{}} }

// Down makes every call fail with ci.Unavailable until Down(false).
func (f *Fake) Down(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
}

// Keys lists every key in order, also during an outage.
func (f *Fake) Keys() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	keys := make([]string, 0, len(f.objects))
	for key := range f.objects {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}

// enter checks what every call checks; the caller holds mu.
func (f *Fake) enter(ctx context.Context, verb string, keys ...string) error {
	if err := ctx.Err(); err != nil {
		return ci.Errorf(ci.Canceled, "cannot %s memory objects %v: %w", verb, keys, err)
	}
	if f.down {
		return ci.Errorf(ci.Unavailable, "cannot %s memory objects %v: the store is down", verb, keys)
	}
	for _, key := range keys {
		if key == "" {
			return ci.Errorf(ci.Invalid, "cannot %s a memory object: the key is empty", verb)
		}
	}
	return nil
}

// Put implements objectstore.Bucket.
func (f *Fake) Put(ctx context.Context, key string, r io.Reader, size int64, opt objectstore.PutOptions) (string, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return "", ci.Errorf(ci.KindOf(err), "cannot read the data for memory object %s: %w", key, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter(ctx, "put", key); err != nil {
		return "", err
	}
	if size >= 0 && int64(len(data)) != size {
		return "", ci.Errorf(ci.Invalid, "cannot put memory object %s: %d bytes announced, %d read", key, size, len(data))
	}
	if _, ok := f.objects[key]; ok && opt.IfNoneMatch {
		return "", ci.Errorf(ci.Conflict, "cannot put memory object %s: it exists", key)
	}
	sum := md5.Sum(data)
	etag := `"` + hex.EncodeToString(sum[:]) + `"`
	f.objects[key] = entry{data, objectstore.Object{Key: key, Size: int64(len(data)), ETag: etag, ModTime: time.Now()}}
	return etag, nil
}

// Get implements objectstore.Bucket.
func (f *Fake) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter(ctx, "get", key); err != nil {
		return nil, err
	}
	if off < 0 {
		return nil, ci.Errorf(ci.Invalid, "cannot get memory object %s from %d", key, off)
	}
	e, ok := f.objects[key]
	if !ok {
		return nil, missing(key)
	}
	data := e.data[min(off, int64(len(e.data))):]
	if n >= 0 {
		data = data[:min(n, int64(len(data)))]
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// Stat implements objectstore.Bucket.
func (f *Fake) Stat(ctx context.Context, key string) (objectstore.Object, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter(ctx, "stat", key); err != nil {
		return objectstore.Object{}, err
	}
	e, ok := f.objects[key]
	if !ok {
		return objectstore.Object{}, missing(key)
	}
	return e.info, nil
}

// List implements objectstore.Bucket.
func (f *Fake) List(ctx context.Context, prefix, after string) ([]objectstore.Object, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter(ctx, "list"); err != nil {
		return nil, err
	}
	var found []objectstore.Object
	for key, e := range f.objects {
		if strings.HasPrefix(key, prefix) && key > after {
			found = append(found, e.info)
		}
	}
	sort.Slice(found, func(i, j int) bool { return found[i].Key < found[j].Key })
	return found[:min(len(found), objectstore.ListPage)], nil
}

// Delete implements objectstore.Bucket.
func (f *Fake) Delete(ctx context.Context, keys ...string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter(ctx, "delete", keys...); err != nil {
		return err
	}
	for _, key := range keys {
		delete(f.objects, key)
	}
	return nil
}

// URL implements objectstore.Bucket.
func (f *Fake) URL(ctx context.Context, key string, ttl time.Duration) (string, error) {
	return f.link(ctx, "GET", key, ttl)
}

// PutURL implements objectstore.Bucket.
func (f *Fake) PutURL(ctx context.Context, key string, ttl time.Duration) (string, error) {
	return f.link(ctx, "PUT", key, ttl)
}

func (f *Fake) link(ctx context.Context, method, key string, ttl time.Duration) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter(ctx, "sign a link to", key); err != nil {
		return "", err
	}
	if ttl < time.Second || ttl > 7*24*time.Hour {
		return "", ci.Errorf(ci.Invalid, "cannot sign a link for %s: 1 s to 7 days are possible", ttl)
	}
	return fmt.Sprintf("memory:%s?method=%s&ttl=%s", key, method, ttl), nil
}

func missing(key string) error {
	return ci.Errorf(ci.NotFound, "no memory object %s", key)
}
