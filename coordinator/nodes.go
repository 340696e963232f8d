package coordinator

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/lifecycle"
)

// drainNodes is how long calls of agents in flight may take at the end; their
// streams have ended before.
const drainNodes = 500 * time.Millisecond

// serveNodes answers agents on the node port. Streams stay open for days, so
// there is no timeout for a call as a whole.
func (c *coordinator) serveNodes(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.Handle(c.dispatch.Handler())
	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		// Half-open connections are found by pings, not by the next write.
		HTTP2:    &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
		ErrorLog: slog.NewLogLogger(c.cfg.Log.Handler(), slog.LevelDebug),
	}
	var g lifecycle.Group
	g.Add("serve", func(context.Context) error {
		if err := srv.Serve(c.mux.HTTP()); !errors.Is(err, http.ErrServerClosed) {
			return ci.Errorf(ci.Unavailable, "cannot serve nodes on %s: %w", c.mux.Addr(), err)
		}
		return nil
	})
	g.Add("stop serving", func(ctx context.Context) error {
		<-ctx.Done()
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainNodes)
		defer cancel()
		if err := srv.Shutdown(within); err != nil {
			return srv.Close()
		}
		return nil
	})
	return g.Run(ctx)
}
