package objectstore

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/slipway-ci/slipway/shared/ci"
)

const (
	defaultRegion = "us-east-1"
	// Small enough that an upload of unknown size holds (concurrency+1) parts
	// in memory without being felt, large enough for 80 GB in 10,000 parts.
	partSize          = 8 << 20
	uploadConcurrency = 3
	// A call is tried this often in all, over a second or two: enough for a
	// hiccup. Outages are the caller's, who knows what waiting costs.
	maxAttempts = 3
	maxBackoff  = time.Second
)

// Config says which bucket and how to reach it.
type Config struct {
	Endpoint  string // URL of an S3 service; empty means AWS
	Region    string // default us-east-1
	Bucket    string // required
	AccessKey string // empty means the usual AWS chain: variables, files, instance role
	SecretKey string
	PathStyle bool // http://host/bucket/key instead of http://bucket.host/key
}

func (c Config) check() error {
	if c.Bucket == "" {
		return ci.FieldErrorf(ci.Invalid, "bucket", "cannot open an object store: the bucket has no name")
	}
	if (c.AccessKey == "") != (c.SecretKey == "") {
		return ci.FieldErrorf(ci.Invalid, "access_key", "cannot open bucket %s: access key and secret key go together", c.Bucket)
	}
	return nil
}

// endpoint is the service's base URL, without a path.
func (c Config) endpoint() (*url.URL, error) {
	raw := c.Endpoint
	if raw == "" {
		raw = "https://s3." + c.Region + ".amazonaws.com"
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" {
		return nil, ci.FieldErrorf(ci.Invalid, "endpoint", "cannot open bucket %s: endpoint %q is not a URL like https://s3.example.com", c.Bucket, raw)
	}
	u.Path = ""
	return u, nil
}

// S3 is a Bucket in an S3 service. It is safe for concurrent use.
type S3 struct {
	bucket  string
	region  string
	path    bool
	base    *url.URL
	creds   aws.CredentialsProvider
	http    *http.Client
	client  *s3.Client
	presign *s3.PresignClient
	upload  *transfermanager.Client
}

var _ Bucket = (*S3)(nil)

// Open prepares a client. It does not call the store, so that a store which is
// away at start-up is met by the caller's ordinary retries; Check does.
func Open(ctx context.Context, cfg Config) (*S3, error) {
	if cfg.Region == "" {
		cfg.Region = defaultRegion
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	base, err := cfg.endpoint()
	if err != nil {
		return nil, err
	}
	client := &http.Client{
		Transport: transport(),
		// A redirect would drop the signature or send it to a stranger.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	creds, err := cfg.credentials(ctx, client)
	if err != nil {
		return nil, err
	}
	opts := s3.Options{
		Region:       cfg.Region,
		Credentials:  creds,
		HTTPClient:   client,
		UsePathStyle: cfg.PathStyle,
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts = maxAttempts
			o.MaxBackoff = maxBackoff
			// The token bucket would make one outage fail later calls at once.
			o.RateLimiter = noLimit{}
		}),
		// Stores other than AWS reject or ignore the newer default checksums.
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	}
	if cfg.Endpoint != "" {
		opts.BaseEndpoint = aws.String(base.String())
	}
	c := s3.New(opts)
	return &S3{
		bucket: cfg.Bucket, region: cfg.Region, path: cfg.PathStyle, base: base,
		creds: creds, http: client, client: c,
		presign: s3.NewPresignClient(c),
		upload: transfermanager.New(c, func(o *transfermanager.Options) {
			o.PartSizeBytes = partSize
			o.MultipartUploadThreshold = partSize
			o.Concurrency = uploadConcurrency
			o.FailTimeout = 10 * time.Second
			// It does not follow the client's setting.
			o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		}),
	}, nil
}

// credentials returns the fixed pair of the config, untouched by whatever AWS
// variables the process has, or else what the usual chain finds.
func (c Config) credentials(ctx context.Context, client *http.Client) (aws.CredentialsProvider, error) {
	if c.AccessKey != "" {
		return credentials.NewStaticCredentialsProvider(c.AccessKey, c.SecretKey, ""), nil
	}
	chain, err := config.LoadDefaultConfig(ctx, config.WithRegion(c.Region), config.WithHTTPClient(client))
	if err != nil {
		return nil, ci.Errorf(ci.Invalid, "cannot find AWS credentials for bucket %s: %w", c.Bucket, err)
	}
	return chain.Credentials, nil
}

func transport() *http.Transport {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          256,
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 60 * time.Second,
		ExpectContinueTimeout: time.Second,
		// Objects are handed on as they lie in the store, zipped or not.
		DisableCompression: true,
	}
}

// Name returns the bucket's name.
func (s *S3) Name() string { return s.bucket }

// Check asks the store for the bucket once, so that a wrong endpoint, name or
// key is found before the first upload.
func (s *S3) Check(ctx context.Context) error {
	_, err := s.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.bucket})
	if err != nil {
		return s.fail("reach", "", err)
	}
	return nil
}

// Close drops idle connections. Calls in flight go on.
func (s *S3) Close() { s.http.CloseIdleConnections() }

// noLimit never refuses a retry; attempts are bounded in number already.
type noLimit struct{}

func (noLimit) GetToken(context.Context, uint) (func() error, error) {
	return func() error { return nil }, nil
}
func (noLimit) AddTokens(uint) error { return nil }
