package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"

	"github.com/slipway-ci/slipway/proto/slipway/v1/slipwayv1connect"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/wire"
)

const (
	maxBody    = 4 << 20 // bytes of a request
	maxHeaders = 64 << 10
	// maxWait bounds long polls; the write timeout must leave room for it.
	maxWait      = 30 * time.Second
	writeTimeout = 2 * time.Minute
	// drain is how long calls in flight may take when the server stops.
	drain = 1500 * time.Millisecond
)

// Handler serves both services over Connect, gRPC and gRPC-Web, reflection, and
// /healthz and /readyz, which need no token.
func (a *API) Handler() http.Handler {
	opts := append(wire.HandlerOptions(a.cfg.Log),
		connect.WithInterceptors(a.cfg.Auth),
		connect.WithReadMaxBytes(maxBody))
	opts = append(opts, jsonCodecs()...)
	mux := http.NewServeMux()
	mux.Handle(slipwayv1connect.NewRunServiceHandler(a, opts...))
	mux.Handle(slipwayv1connect.NewAdminServiceHandler(a, opts...))
	reflector := grpcreflect.NewStaticReflector(slipwayv1connect.RunServiceName, slipwayv1connect.AdminServiceName)
	mux.Handle(grpcreflect.NewHandlerV1(reflector, opts...))
	mux.Handle(grpcreflect.NewHandlerV1Alpha(reflector, opts...))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { sayOK(w) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := a.cfg.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		sayOK(w)
	})
	// Tokens travel in a header that no form can set; this also keeps other
	// sites' scripts out, whatever headers they manage to send.
	return http.NewCrossOriginProtection().Handler(http.MaxBytesHandler(mux, maxBody))
}

func sayOK(w http.ResponseWriter) { _, _ = w.Write([]byte("ok\n")) } // the client may be gone

// Serve answers on ln, HTTP/1.1 and h2c, until ctx ends. Calls in flight then
// have a few seconds; long polls end at once if Run has ended before.
func (a *API) Serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler:           a.Handler(),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeaders,
		Protocols:         new(http.Protocols),
	}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	var g lifecycle.Group
	g.Add("serve", func(context.Context) error {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return ci.Errorf(ci.Unavailable, "cannot serve the API on %s: %w", ln.Addr(), err)
		}
		return nil
	})
	g.Add("stop serving", func(ctx context.Context) error {
		<-ctx.Done()
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
		defer cancel()
		if err := srv.Shutdown(within); err != nil {
			return srv.Close()
		}
		return nil
	})
	return g.Run(ctx)
}
