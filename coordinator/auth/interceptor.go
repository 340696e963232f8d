package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/http"
	"strings"

	"connectrpc.com/connect"

	"github.com/slipway-ci/slipway/shared/ci"
)

// Config is what an Interceptor needs.
type Config struct {
	// Ready returns why tokens cannot be judged yet, or nil. Optional.
	Ready func() error
	// Token finds a token by the hex sha256 of its secret; nil when nobody has it.
	Token func(hash string) *ci.Token
	// Hint tells a caller without a good token where to find one. Optional.
	Hint string
	Log  *slog.Logger
}

// Interceptor lets a call through when its token is known and its role covers
// the method; the handler finds the caller with From.
type Interceptor struct{ cfg Config }

var _ connect.Interceptor = (*Interceptor)(nil)

// New returns an interceptor.
func New(cfg Config) *Interceptor { return &Interceptor{cfg} }

// Hash returns what is kept of a token's secret: its hex sha256.
func Hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// check authenticates before anything else, so that a stranger learns nothing,
// not even which methods there are.
func (i *Interceptor) check(ctx context.Context, method string, h http.Header) (context.Context, error) {
	if i.cfg.Ready != nil {
		if err := i.cfg.Ready(); err != nil {
			return nil, err
		}
	}
	secret, err := bearer(h)
	if err != nil {
		return nil, i.refuse(err.Error())
	}
	// The lookup is by hash, so its timing tells nothing about a secret.
	token := i.cfg.Token(Hash(secret))
	if token == nil {
		i.cfg.Log.InfoContext(ctx, "refused a call with an unknown token", "method", method)
		return nil, i.refuse("the token is not known here: it is mistyped, revoked, or another cluster's")
	}
	p := Principal{
		Actor:  ci.Actor{Kind: ci.ActorToken, Name: token.User},
		Role:   token.Role,
		Tenant: token.Tenant,
	}
	need, known := methods[method]
	if !known {
		return nil, ci.Errorf(ci.Forbidden, "nobody may call %s: it has no entry in the table of permissions", method)
	}
	if !p.Can(need) {
		return nil, ci.Errorf(ci.Forbidden, "%s may not call %s: it needs the role %s, and the token has %s",
			p.Actor.Name, method, roleFor[need], p.Role)
	}
	return With(ctx, p), nil
}

func (i *Interceptor) refuse(why string) error {
	hint := `; pass a token as "Authorization: Bearer TOKEN", or to the command line as SLIPWAY_TOKEN`
	if i.cfg.Hint != "" {
		hint += "; " + i.cfg.Hint
	}
	return ci.Errorf(ci.Unauthenticated, "%s%s", why, hint)
}

func bearer(h http.Header) (string, error) {
	value := h.Get("Authorization")
	if value == "" {
		return "", ci.Errorf(ci.Unauthenticated, "the call has no token")
	}
	scheme, secret, _ := strings.Cut(value, " ")
	secret = strings.TrimSpace(secret)
	if !strings.EqualFold(scheme, "Bearer") || secret == "" {
		return "", ci.Errorf(ci.Unauthenticated, "the Authorization header is not of the form Bearer TOKEN")
	}
	return secret, nil
}

// WrapUnary implements connect.Interceptor.
func (i *Interceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		ctx, err := i.check(ctx, req.Spec().Procedure, req.Header())
		if err != nil {
			return nil, err
		}
		return next(ctx, req)
	}
}

// WrapStreamingClient implements connect.Interceptor; clients are not its matter.
func (i *Interceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler implements connect.Interceptor.
func (i *Interceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		ctx, err := i.check(ctx, conn.Spec().Procedure, conn.RequestHeader())
		if err != nil {
			return err
		}
		return next(ctx, conn)
	}
}
