package coordinator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/slipway-ci/slipway/coordinator/auth"
	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/id"
)

const (
	tokenBytes = 32
	firstUser  = "admin"
	// leaderPause is the pause between tries to prepare a cluster.
	leaderPause = 200 * time.Millisecond
)

// firstStart waits for a leader, sees to what a cluster must have (the default
// tenant, and a token for its first user), and says that the node is ready.
// Each part is made only where it is missing, so that a crash in between, or a
// lost token file, is mended by the next start.
func (c *coordinator) firstStart(ctx context.Context) error {
	err := c.node.WaitLeader(ctx)
	for c.cfg.Bootstrap && err == nil {
		// A leader may be lost again at any moment; then the next one counts.
		if err = c.bootstrap(ctx); ci.KindOf(err) != ci.Unavailable || err == nil {
			break
		}
		c.cfg.Log.InfoContext(ctx, "cannot prepare the cluster yet", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(leaderPause):
			err = c.node.WaitLeader(ctx)
		}
	}
	if err != nil {
		return ended(ctx, err)
	}
	c.started.Store(true)
	if c.cfg.Ready != nil {
		c.cfg.Ready(Info{
			Node: c.who.NodeID, Cluster: c.who.Cluster,
			Listen: c.apiLn.Addr().String(), NodeAddr: c.mux.Addr().String(), Gossip: c.gossip.Addr(),
			TokenFile: c.cfg.tokenFile(),
		})
	}
	return nil
}

// ended makes nothing of an error that only says that the node stops.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (c *coordinator) bootstrap(ctx context.Context) error {
	// What is committed is applied here only after this.
	if err := c.node.Verify(ctx); err != nil {
		return err
	}
	if c.store.View().Tenant(ci.DefaultTenant) == nil {
		op := &state.CreateTenant{Tenant: ci.Tenant{ID: ci.DefaultTenant, Grants: c.cfg.InitialGrants}}
		if err := c.propose(ctx, op); err != nil {
			return err
		}
	}
	secret, err := c.firstSecret()
	if err != nil {
		return err
	}
	hash := auth.Hash(secret)
	if c.store.View().TokenByHash(hash) != nil {
		return nil
	}
	return c.propose(ctx, &state.CreateToken{Token: ci.Token{
		ID: ci.TokenID(id.New()), Hash: hash, User: firstUser, Role: ci.RoleAdmin,
	}})
}

func (c *coordinator) propose(ctx context.Context, op state.Op) error {
	_, err := c.node.Propose(ctx, state.Command{Actor: ci.System, Op: op})
	return err
}

// firstSecret reads the token file, and makes one where there is none. The file
// comes before the token: a token that nobody has would be of no use.
func (c *coordinator) firstSecret() (string, error) {
	path := c.cfg.tokenFile()
	data, err := os.ReadFile(path)
	switch {
	case err == nil:
		secret := strings.TrimSpace(string(data))
		if len(secret) < tokenBytes {
			return "", ci.Errorf(ci.Invalid, "the token file %s holds no token: remove it, and the next start makes a new one", path)
		}
		return secret, nil
	case !errors.Is(err, fs.ErrNotExist):
		return "", ci.Errorf(ci.Invalid, "cannot read the token file: %w", err)
	}
	secret := id.Secret(tokenBytes)
	return secret, writeToken(path, secret)
}

// writeToken puts the file in place whole, readable by its owner alone.
func writeToken(path, secret string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".token-*") // mode 0600
	if err != nil {
		return fmt.Errorf("cannot write the token file: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("cannot write the token file: %w", err), os.Remove(f.Name()))
		}
	}()
	_, err = f.WriteString(secret + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
