// Package s3gate is the S3 endpoint that steps see. It verifies signatures
// with credentials that are good for one attempt's prefix, refuses everything
// outside it, and sends the rest on to the real store under the agent's own.
package s3gate

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
)

// Upstream is the real store. Do sends req, whose URL path is /<bucket>/<key>
// and which carries no credentials; a refusal by the store is a response, not
// an error.
type Upstream interface {
	Do(ctx context.Context, req *http.Request) (*http.Response, error)
}

// Config is what a Gate needs.
type Config struct {
	Upstream Upstream
	// Region is what GetBucketLocation answers; default us-east-1. Signatures
	// are taken for any region.
	Region string
	// OnPut is told of every object that an attempt has written, by its name
	// below the attempt's prefix, after the client has its answer. It must
	// return soon. Nil is allowed.
	OnPut func(attempt, name string)
	// Log gets one line per failure of the store and per refusal; nil is silent.
	Log *slog.Logger
	// Now is the clock against which signatures are checked; default time.Now.
	Now func() time.Time
}

// Grant lets one attempt use one prefix.
type Grant struct {
	AttemptID string
	AccessKey string // made for this attempt alone
	SecretKey string
	Bucket    string
	Prefix    string // of keys, without slashes at its ends
}

// Gate serves any number of attempts on one listener. It is an http.Handler.
type Gate struct {
	cfg Config
	mu  sync.RWMutex
	// by access key, and by attempt
	keys     map[string]*grant
	attempts map[string]*grant
}

// grant is a Grant in use; over ends when it is removed.
type grant struct {
	Grant
	over   context.Context
	revoke context.CancelFunc
}

// New returns a gate without grants.
func New(cfg Config) *Gate {
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.OnPut == nil {
		cfg.OnPut = func(string, string) {}
	}
	return &Gate{cfg: cfg, keys: map[string]*grant{}, attempts: map[string]*grant{}}
}

// Add lets an attempt in. Adding the same grant again is no error; another
// one for the same attempt, or a key that is in use, is a ci.Conflict.
func (g *Gate) Add(add Grant) error {
	switch {
	case add.AttemptID == "" || add.AccessKey == "" || add.SecretKey == "" || add.Bucket == "":
		return ci.Errorf(ci.Invalid, "cannot grant attempt %q access to S3: attempt, keys and bucket are needed", add.AttemptID)
	case checkKey(add.Prefix) != nil || strings.HasSuffix(add.Prefix, "/"):
		// An empty prefix would open the whole bucket.
		return ci.Errorf(ci.Invalid, "cannot grant attempt %s access to S3: %q is not a prefix", add.AttemptID, add.Prefix)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if old := g.attempts[add.AttemptID]; old != nil && old.Grant == add {
		return nil
	}
	if g.attempts[add.AttemptID] != nil || g.keys[add.AccessKey] != nil {
		return ci.Errorf(ci.Conflict, "cannot grant attempt %s access to S3: it or its access key has another grant", add.AttemptID)
	}
	over, revoke := context.WithCancel(context.Background()) //nolint:forbidigo // a grant lives until Remove, beyond the call that gives it
	granted := &grant{Grant: add, over: over, revoke: revoke}
	g.keys[add.AccessKey], g.attempts[add.AttemptID] = granted, granted
	return nil
}

// Remove ends an attempt's access and cuts off its requests in flight. An
// unknown attempt is no error.
func (g *Gate) Remove(attempt string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if old := g.attempts[attempt]; old != nil {
		old.revoke()
		delete(g.attempts, attempt)
		delete(g.keys, old.AccessKey)
	}
}

func (g *Gate) lookup(accessKey string) *grant {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.keys[accessKey]
}

const (
	// Clients send their headers at once; bodies may take as long as they like.
	headerTimeout = 30 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 64 << 10
	// Requests in flight get this long when the gate stops.
	stopGrace = 2 * time.Second
)

// Serve answers on l until ctx ends, and closes l. It returns nil when ctx ends.
func (g *Gate) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:           g,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(g.cfg.Log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
		defer cancel()
		if err := server.Shutdown(grace); err != nil {
			_ = server.Close() // cuts what did not end in time
		}
	})
	err := server.Serve(l)
	if stop() {
		return ci.Errorf(ci.Unavailable, "the S3 endpoint for steps at %s stopped: %w", l.Addr(), err)
	}
	<-stopped
	if !errors.Is(err, http.ErrServerClosed) {
		return ci.Errorf(ci.Unavailable, "the S3 endpoint for steps at %s stopped: %w", l.Addr(), err)
	}
	return nil
}
