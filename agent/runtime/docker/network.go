package docker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"

	"github.com/slipway-ci/slipway/shared/ci"
)

// Gateway returns the host's address on the steps' network, where things that
// steps may reach can listen. It makes the network unless it is there.
func (r *Runtime) Gateway(ctx context.Context) (string, error) {
	r.netMu.Lock()
	defer r.netMu.Unlock()
	if r.gateway != "" {
		return r.gateway, nil
	}
	n, err := r.findNetwork(ctx)
	if err == nil && n.ID == "" {
		_, err = r.api.NetworkCreate(ctx, r.cfg.Network, network.CreateOptions{
			Driver: "bridge",
			// Steps do not see each other; they do see the gateway and the world.
			Options: map[string]string{"com.docker.network.bridge.enable_icc": "false"},
			Labels:  map[string]string{LabelCluster: r.cfg.Cluster, LabelAgent: string(r.cfg.Agent)},
		})
		if err != nil && !errdefs.IsConflict(err) {
			return "", fmt.Errorf("cannot make the network %s of steps: %w", r.cfg.Network, err)
		}
		n, err = r.findNetwork(ctx)
	}
	// Engines list a network that somebody else makes before it has its addresses.
	pause := backoff{}
	for try := 0; try < 8 && err == nil && n.ID != "" && gatewayOf(n) == ""; try++ {
		if err = pause.wait(ctx); err == nil {
			n, err = r.findNetwork(ctx)
		}
	}
	if err != nil {
		return "", fmt.Errorf("cannot use the network %s of steps: %w", r.cfg.Network, err)
	}
	if r.gateway = gatewayOf(n); r.gateway != "" {
		return r.gateway, nil
	}
	return "", ci.Errorf(ci.Internal, "cannot use the network %s of steps: it has no gateway address; delete it: docker network rm %s",
		r.cfg.Network, r.cfg.Network)
}

// gatewayOf is the host's address on a network, for IPv4.
func gatewayOf(n network.Summary) string {
	for _, c := range n.IPAM.Config {
		if strings.Contains(c.Gateway, ".") {
			return c.Gateway
		}
	}
	return ""
}

// findNetwork returns the network, or none. Engines before 25 let two callers
// make two networks of one name, which then cannot be used by it: the oldest
// stays.
func (r *Runtime) findNetwork(ctx context.Context) (network.Summary, error) {
	all, err := r.api.NetworkList(ctx, network.ListOptions{Filters: filters.NewArgs(filters.Arg("name", r.cfg.Network))})
	if err != nil {
		return network.Summary{}, err
	}
	// The filter takes parts of names too.
	all = slices.DeleteFunc(all, func(n network.Summary) bool { return n.Name != r.cfg.Network })
	if len(all) == 0 {
		return network.Summary{}, nil
	}
	slices.SortFunc(all, func(a, b network.Summary) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	for i, n := range all {
		if n.Labels[LabelCluster] != r.cfg.Cluster {
			return network.Summary{}, ci.Errorf(ci.Conflict, "it is there already and belongs to somebody else; configure another name")
		}
		if i > 0 {
			if err := r.api.NetworkRemove(ctx, n.ID); err != nil && !errdefs.IsNotFound(err) {
				return network.Summary{}, fmt.Errorf("a second one of that name cannot be deleted: %w", err)
			}
		}
	}
	return all[0], nil
}

// forgetNetwork makes the next Gateway look again.
func (r *Runtime) forgetNetwork() {
	r.netMu.Lock()
	defer r.netMu.Unlock()
	r.gateway = ""
}

// removeNetwork deletes the network if nobody is on it.
func (r *Runtime) removeNetwork(ctx context.Context) error {
	r.forgetNetwork()
	n, err := r.findNetwork(ctx)
	if err == nil && n.ID != "" {
		n, err = r.api.NetworkInspect(ctx, n.ID, network.InspectOptions{})
	}
	if errdefs.IsNotFound(err) || err == nil && n.ID == "" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot look at the network %s: %w", r.cfg.Network, err)
	}
	if len(n.Containers) > 0 || n.Labels[LabelCluster] != r.cfg.Cluster || n.Labels[LabelAgent] != string(r.cfg.Agent) {
		return nil
	}
	err = r.api.NetworkRemove(ctx, n.ID)
	if err == nil || errdefs.IsNotFound(err) || strings.Contains(err.Error(), "has active endpoints") {
		return nil // somebody was quicker
	}
	return fmt.Errorf("cannot delete the network %s: %w", r.cfg.Network, err)
}
