package s3dev

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3err"
	"github.com/versity/versitygw/s3response"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// rooted hands absolute paths to the posix backend in place of bucket names.
// By itself that backend changes the process's working directory for good and
// finds its buckets relative to it, which no program with other things to do
// can bear. What is not listed here the server answers with NotImplemented.
type rooted struct {
	backend.BackendUnsupported
	posix *posix.Posix
	root  string
}

// newRooted opens the backend on folders that exist and are absolute.
func newRooted(data, side string) (*rooted, error) {
	store, err := meta.NewSideCar(side)
	if err != nil {
		return nil, err
	}
	opts := posix.PosixOpts{}
	opts.SetNewDirPerm(0o700)
	opts.SetNewFilePerm(0o600)
	var p *posix.Posix
	err = elsewhere(func() (err error) {
		p, err = posix.New(data, sidecar{store}, opts)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &rooted{posix: p, root: data}, nil
}

// elsewhere runs what changes the working directory so that nobody notices: on
// a thread with a directory of its own, which ends with the call. Where the
// system forbids that, it goes back at once, and a relative path of another
// goroutine may miss in between.
func elsewhere(run func() error) error {
	var g errgroup.Group
	g.Go(func() error {
		runtime.LockOSThread() // and does not unlock: the thread dies with this goroutine
		if unix.Gettid() == unix.Getpid() {
			// All but the main thread, which would stay there for good. While it is
			// held here, the next goroutine gets another one.
			defer runtime.UnlockOSThread()
			return elsewhere(run)
		}
		if unix.Unshare(unix.CLONE_FS) == nil {
			return run()
		}
		here, err := os.Open(".")
		if err != nil {
			return err
		}
		defer here.Close()
		err = run()
		return errors.Join(err, here.Chdir())
	})
	return g.Wait()
}

func (r *rooted) dir(bucket string) string   { return filepath.Join(r.root, bucket) }
func (r *rooted) ptr(bucket *string) *string { dir := r.dir(*bucket); return &dir }

// Shutdown and the methods below implement backend.Backend.
func (r *rooted) Shutdown() { r.posix.Shutdown() }

func (r *rooted) String() string { return "slipway dev store" }

func (r *rooted) NormalizeObjectKey(bucket, object string) string {
	return r.posix.NormalizeObjectKey(r.dir(bucket), object)
}

func (r *rooted) HeadBucket(ctx context.Context, in *s3.HeadBucketInput) (*s3.HeadBucketOutput, error) {
	c := *in
	c.Bucket = r.ptr(in.Bucket)
	return r.posix.HeadBucket(ctx, &c)
}

func (r *rooted) CreateBucket(ctx context.Context, in *s3.CreateBucketInput, acl []byte) error {
	c := *in
	c.Bucket = r.ptr(in.Bucket)
	return r.posix.CreateBucket(ctx, &c, acl)
}

func (r *rooted) GetBucketAcl(ctx context.Context, in *s3.GetBucketAclInput) ([]byte, error) {
	c := *in
	c.Bucket = r.ptr(in.Bucket)
	return r.posix.GetBucketAcl(ctx, &c)
}

func (r *rooted) GetBucketPolicy(ctx context.Context, bucket string) ([]byte, error) {
	return r.posix.GetBucketPolicy(ctx, r.dir(bucket))
}

func (r *rooted) GetBucketCors(ctx context.Context, bucket string) ([]byte, error) {
	return r.posix.GetBucketCors(ctx, r.dir(bucket))
}

func (r *rooted) GetBucketOwnershipControls(ctx context.Context, bucket string) (types.ObjectOwnership, error) {
	return r.posix.GetBucketOwnershipControls(ctx, r.dir(bucket))
}

func (r *rooted) GetBucketVersioning(ctx context.Context, bucket string) (s3response.GetBucketVersioningOutput, error) {
	return r.posix.GetBucketVersioning(ctx, r.dir(bucket))
}

func (r *rooted) GetObjectLockConfiguration(ctx context.Context, bucket string) ([]byte, error) {
	return r.posix.GetObjectLockConfiguration(ctx, r.dir(bucket))
}

func (r *rooted) GetObjectRetention(ctx context.Context, bucket, object, version string) ([]byte, error) {
	return r.posix.GetObjectRetention(ctx, r.dir(bucket), object, version)
}

func (r *rooted) GetObjectLegalHold(ctx context.Context, bucket, object, version string) (*bool, error) {
	return r.posix.GetObjectLegalHold(ctx, r.dir(bucket), object, version)
}

func (r *rooted) ListObjects(ctx context.Context, in *s3.ListObjectsInput) (s3response.ListObjectsResult, error) {
	c := *in
	c.Bucket = r.ptr(in.Bucket)
	out, err := r.posix.ListObjects(ctx, &c)
	out.Name = in.Bucket
	return out, err
}

func (r *rooted) ListObjectsV2(ctx context.Context, in *s3.ListObjectsV2Input) (s3response.ListObjectsV2Result, error) {
	c := *in
	c.Bucket = r.ptr(in.Bucket)
	out, err := r.posix.ListObjectsV2(ctx, &c)
	out.Name = in.Bucket
	return out, err
}

func (r *rooted) PutObject(ctx context.Context, in s3response.PutObjectInput) (s3response.PutObjectOutput, error) {
	in.Bucket, in.Body = r.ptr(in.Bucket), whole(in.Body, in.ContentLength)
	return r.posix.PutObject(ctx, in)
}

func (r *rooted) HeadObject(ctx context.Context, in *s3.HeadObjectInput) (*s3.HeadObjectOutput, error) {
	c := *in
	c.Bucket = r.ptr(in.Bucket)
	return r.posix.HeadObject(ctx, &c)
}

func (r *rooted) GetObject(ctx context.Context, in *s3.GetObjectInput) (*s3.GetObjectOutput, error) {
	c := *in
	c.Bucket = r.ptr(in.Bucket)
	return r.posix.GetObject(ctx, &c)
}

func (r *rooted) DeleteObject(ctx context.Context, in *s3.DeleteObjectInput) (*s3.DeleteObjectOutput, error) {
	c := *in
	c.Bucket = r.ptr(in.Bucket)
	return r.posix.DeleteObject(ctx, &c)
}

func (r *rooted) DeleteObjects(ctx context.Context, in *s3.DeleteObjectsInput) (s3response.DeleteResult, error) {
	c := *in
	c.Bucket = r.ptr(in.Bucket)
	return r.posix.DeleteObjects(ctx, &c)
}

func (r *rooted) CreateMultipartUpload(ctx context.Context, in s3response.CreateMultipartUploadInput) (s3response.InitiateMultipartUploadResult, error) {
	bucket := *in.Bucket
	in.Bucket = r.ptr(in.Bucket)
	out, err := r.posix.CreateMultipartUpload(ctx, in)
	out.Bucket = bucket
	return out, err
}

func (r *rooted) UploadPart(ctx context.Context, in *s3.UploadPartInput) (*s3.UploadPartOutput, error) {
	c := *in
	c.Bucket, c.Body = r.ptr(in.Bucket), whole(in.Body, in.ContentLength)
	return r.posix.UploadPart(ctx, &c)
}

func (r *rooted) ListParts(ctx context.Context, in *s3.ListPartsInput) (s3response.ListPartsResult, error) {
	c := *in
	c.Bucket = r.ptr(in.Bucket)
	out, err := r.posix.ListParts(ctx, &c)
	out.Bucket = *in.Bucket
	return out, err
}

func (r *rooted) CompleteMultipartUpload(ctx context.Context, in *s3.CompleteMultipartUploadInput) (s3response.CompleteMultipartUploadResult, string, error) {
	c := *in
	c.Bucket = r.ptr(in.Bucket)
	out, version, err := r.posix.CompleteMultipartUpload(ctx, &c)
	out.Bucket = in.Bucket
	return out, version, err
}

func (r *rooted) AbortMultipartUpload(ctx context.Context, in *s3.AbortMultipartUploadInput) error {
	c := *in
	c.Bucket = r.ptr(in.Bucket)
	return r.posix.AbortMultipartUpload(ctx, &c)
}

func (r *rooted) ListMultipartUploads(ctx context.Context, in *s3.ListMultipartUploadsInput) (s3response.ListMultipartUploadsResult, error) {
	c := *in
	c.Bucket = r.ptr(in.Bucket)
	out, err := r.posix.ListMultipartUploads(ctx, &c)
	out.Bucket = *in.Bucket
	return out, err
}

// CopyObject reads and writes, because the source's bucket is part of a string
// that cannot hold a path.
func (r *rooted) CopyObject(ctx context.Context, in s3response.CopyObjectInput) (s3response.CopyObjectOutput, error) {
	bucket, key, _, err := backend.ParseCopySource(*in.CopySource)
	if err != nil {
		return s3response.CopyObjectOutput{}, err
	}
	if bucket == *in.Bucket && key == *in.Key {
		return s3response.CopyObjectOutput{}, s3err.GetAPIError(s3err.ErrNotImplemented)
	}
	src, err := r.GetObject(ctx, &s3.GetObjectInput{
		Bucket: &bucket, Key: &key, IfMatch: in.CopySourceIfMatch, IfNoneMatch: in.CopySourceIfNoneMatch,
		IfModifiedSince: in.CopySourceIfModifiedSince, IfUnmodifiedSince: in.CopySourceIfUnmodifiedSince,
	})
	if err != nil {
		return s3response.CopyObjectOutput{}, err
	}
	defer src.Body.Close()
	put := s3response.PutObjectInput{
		Bucket: in.Bucket, Key: in.Key, Body: src.Body, ContentLength: src.ContentLength,
		Metadata: src.Metadata, ContentType: src.ContentType, ContentEncoding: src.ContentEncoding,
		ContentDisposition: src.ContentDisposition, ContentLanguage: src.ContentLanguage, CacheControl: src.CacheControl,
	}
	if in.MetadataDirective == types.MetadataDirectiveReplace {
		put.Metadata, put.ContentType, put.ContentEncoding = in.Metadata, in.ContentType, in.ContentEncoding
		put.ContentDisposition, put.ContentLanguage, put.CacheControl = in.ContentDisposition, in.ContentLanguage, in.CacheControl
	}
	out, err := r.PutObject(ctx, put)
	if err != nil {
		return s3response.CopyObjectOutput{}, err
	}
	fresh, err := r.HeadObject(ctx, &s3.HeadObjectInput{Bucket: in.Bucket, Key: in.Key})
	if err != nil {
		return s3response.CopyObjectOutput{}, err
	}
	return s3response.CopyObjectOutput{CopyObjectResult: &s3response.CopyObjectResult{ETag: &out.ETag, LastModified: fresh.LastModified}}, nil
}

// sidecar keeps an object's attributes in files, since not every file system
// has extended attributes, under the bucket's plain name, so that the folder
// can be moved.
type sidecar struct{ meta.SideCar }

// RetrieveAttribute and the methods below implement meta.MetadataStorer.
func (s sidecar) RetrieveAttribute(f *os.File, bucket, object, attribute string) ([]byte, error) {
	return s.SideCar.RetrieveAttribute(f, filepath.Base(bucket), object, attribute)
}

func (s sidecar) StoreAttribute(f *os.File, bucket, object, attribute string, value []byte) error {
	return s.SideCar.StoreAttribute(f, filepath.Base(bucket), object, attribute, value)
}

func (s sidecar) DeleteAttribute(bucket, object, attribute string) error {
	return s.SideCar.DeleteAttribute(filepath.Base(bucket), object, attribute)
}

func (s sidecar) ListAttributes(bucket, object string) ([]string, error) {
	return s.SideCar.ListAttributes(filepath.Base(bucket), object)
}

func (s sidecar) DeleteAttributes(bucket, object string) error {
	return s.SideCar.DeleteAttributes(filepath.Base(bucket), object)
}

func (s sidecar) RenameObject(bucket, from, to string) error {
	return s.SideCar.RenameObject(filepath.Base(bucket), from, to)
}
