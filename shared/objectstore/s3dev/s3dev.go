// Package s3dev is an S3 server on a folder for `slipway dev` and for tests:
// real signatures, no other process. The library behind it allows one server
// per process at a time. An object and a folder of the same name (a and a/b)
// cannot both exist in it, unlike in S3.
package s3dev

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/embedgw"
	"github.com/versity/versitygw/s3api"

	"github.com/slipway-ci/slipway/shared/ci"
)

// Config says where the server keeps its objects and who may use it.
type Config struct {
	Dir       string // made when absent; the buckets survive in it
	Listen    string // default 127.0.0.1:0; a fixed port keeps the endpoint over restarts
	AccessKey string // required
	SecretKey string // required
	Bucket    string // made when absent
	Region    string // default us-east-1
}

// portTries bounds the search for a free port: between finding one and binding
// it, another process may take it.
const portTries = 5

// Run serves until ctx ends and calls ready once, with the endpoint's URL,
// when requests are being taken. It returns nil when ctx ends.
func Run(ctx context.Context, cfg Config, ready func(endpoint string)) error {
	if cfg.Dir == "" || cfg.AccessKey == "" || cfg.SecretKey == "" || cfg.Bucket == "" {
		return ci.Errorf(ci.Invalid, "cannot start the embedded S3 server: folder, access key, secret key and bucket are needed")
	}
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	_, port, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return ci.FieldErrorf(ci.Invalid, "listen", "cannot start the embedded S3 server on %q: %w", cfg.Listen, err)
	}
	tries := 1
	if port == "0" {
		tries = portTries
	}
	for ; ; tries-- {
		err = serve(ctx, cfg, ready)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		// The library passes on the text alone.
		inUse := strings.Contains(err.Error(), "address already in use")
		if inUse && tries > 1 {
			continue
		}
		if inUse {
			return ci.Errorf(ci.Conflict, "cannot start the embedded S3 server: %s is taken by another program: %w", cfg.Listen, err)
		}
		return ci.Errorf(ci.KindOf(err), "cannot run the embedded S3 server in %s: %w", cfg.Dir, err)
	}
}

func serve(ctx context.Context, cfg Config, ready func(string)) error {
	be, err := open(ctx, cfg)
	if err != nil {
		return err
	}
	addr, err := freePort(cfg.Listen)
	if err != nil {
		be.Shutdown()
		return err
	}
	var bound atomic.Bool
	err = embedgw.RunVersityGW(ctx, be, &embedgw.Config{
		RootUserAccess: cfg.AccessKey,
		RootUserSecret: cfg.SecretKey,
		// Left out, it is the same but announced on stdout.
		IAMService:     auth.NewIAMServiceSingle(auth.Account{Access: cfg.AccessKey, Secret: cfg.SecretKey, Role: auth.RoleAdmin}),
		Region:         cfg.Region,
		Ports:          []string{addr},
		MaxConnections: 4096, MaxRequests: 4096,
		MultipartMaxParts: 10000,
		KeepAlive:         true,
		Quiet:             true,
		DisableACLs:       true,
		S3Options: []s3api.Option{s3api.WithOnListen(func() {
			if bound.CompareAndSwap(false, true) {
				ready("http://" + addr)
			}
		})},
	})
	if bound.Load() && err != nil && ctx.Err() == nil {
		return ci.Errorf(ci.Unavailable, "the server stopped: %w", err)
	}
	return err
}

// open makes folders and bucket.
func open(ctx context.Context, cfg Config) (*rooted, error) {
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, err
	}
	data, side := filepath.Join(dir, "data"), filepath.Join(dir, "meta")
	for _, d := range []string{data, side} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	be, err := newRooted(data, side)
	if err != nil {
		return nil, err
	}
	if err := be.ensureBucket(ctx, cfg.Bucket, cfg.AccessKey); err != nil {
		be.Shutdown()
		return nil, err
	}
	return be, nil
}

func (r *rooted) ensureBucket(ctx context.Context, bucket, owner string) error {
	if bucket != filepath.Base(bucket) || strings.HasPrefix(bucket, ".") {
		return ci.FieldErrorf(ci.Invalid, "bucket", "%q is not a bucket's name", bucket)
	}
	_, err := os.Stat(r.dir(bucket))
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	acl, err := json.Marshal(auth.ACL{Owner: owner})
	if err != nil {
		return err
	}
	return r.CreateBucket(ctx, &s3.CreateBucketInput{
		Bucket: &bucket, ObjectOwnership: types.ObjectOwnershipBucketOwnerEnforced,
		CreateBucketConfiguration: &types.CreateBucketConfiguration{},
	}, acl)
}

// freePort turns port 0 into a port that is free now; the library does not
// tell which one it bound.
func freePort(listen string) (string, error) {
	if _, port, err := net.SplitHostPort(listen); err != nil || port != "0" {
		return listen, err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
