package docker

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/shared/ci"
)

// found is an image on the host.
type found struct {
	id     string
	digest string   // repository@sha256:..., or the id
	user   string   // as the image says, may be empty
	argv   []string // the image's entry point and its arguments, may be empty
}

// resolve makes sure that the image is on the host and tells which one it is.
func (r *Runtime) resolve(ctx context.Context, name string, policy ci.PullPolicy) (found, error) {
	if name == "" {
		return found{}, pullProblem(ci.Errorf(ci.Invalid, "cannot run a container without an image"))
	}
	if policy != ci.PullAlways {
		f, err := r.inspect(ctx, name)
		if !errdefs.IsNotFound(err) {
			return f, err
		}
		if policy == ci.PullNever {
			return f, pullProblem(ci.Errorf(ci.NotFound,
				"cannot find image %s on this host, and `pull: never` forbids to fetch it; build it there first, or allow the pull", name))
		}
	}
	if err := r.pull(ctx, name); err != nil {
		return found{}, err
	}
	f, err := r.inspect(ctx, name)
	if errdefs.IsNotFound(err) {
		err = pullProblem(ci.Errorf(ci.NotFound, "cannot find image %s right after it was pulled: somebody removes images on this host", name))
	}
	return f, err
}

// inspect returns a bare not-found error, for resolve; all others are problems.
func (r *Runtime) inspect(ctx context.Context, name string) (found, error) {
	i, err := r.api.ImageInspect(ctx, name)
	switch {
	case errdefs.IsNotFound(err):
		return found{}, err
	case errdefs.IsInvalidArgument(err):
		return found{}, pullProblem(ci.Errorf(ci.Invalid, "cannot use the image name %q: %w", name, err))
	case err != nil:
		return found{}, infra(err, "look at image %s", name)
	}
	f := found{id: i.ID, digest: pickDigest(name, i.RepoDigests, i.ID)}
	if i.Config != nil {
		f.user = i.Config.User
		f.argv = slices.Concat(i.Config.Entrypoint, i.Config.Cmd)
	}
	return f, nil
}

// pickDigest chooses the digest under which the image has the name's repository.
func pickDigest(name string, digests []string, id string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return id
	}
	for _, d := range digests {
		other, err := reference.ParseNormalizedNamed(d)
		if err != nil || other.Name() != named.Name() {
			continue
		}
		asked, exact := named.(reference.Digested)
		has, ok := other.(reference.Digested)
		if !exact || ok && has.Digest() == asked.Digest() {
			return d
		}
	}
	return id
}

// pull has the engine fetch the image.
func (r *Runtime) pull(ctx context.Context, name string) error {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return pullProblem(ci.Errorf(ci.Invalid, "cannot use the image name %q: %w", name, err))
	}
	r.cfg.Log.Info("pulling an image", "image", name)
	body, err := r.api.ImagePull(ctx, name, image.PullOptions{RegistryAuth: registryAuth(reference.Domain(named))})
	if err == nil {
		err = errors.Join(pullEnd(body), body.Close())
	}
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return explainPull(name, named, err)
}

// pullEnd reads the progress to its end; a failure is its last message.
func pullEnd(body io.Reader) error {
	for d := json.NewDecoder(body); ; {
		var m struct {
			Error       string `json:"error"`
			ErrorDetail struct {
				Message string `json:"message"`
			} `json:"errorDetail"`
		}
		switch err := d.Decode(&m); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case m.ErrorDetail.Message != "":
			return errors.New(m.ErrorDetail.Message)
		case m.Error != "":
			return errors.New(m.Error)
		}
	}
}

// pullCauses tells what registries and engines say from what to do about it.
var pullCauses = []struct {
	kind  ci.Kind
	says  []string
	means string
}{
	{
		ci.Exhausted,
		[]string{"toomanyrequests", "rate limit"},
		"the registry limits how much is pulled; wait, log this host in (docker login), or use a mirror",
	},
	{
		ci.NotFound,
		[]string{"manifest unknown", "not found: manifest", "manifest for", "name unknown"},
		"the registry has no such image or tag; check the name and tag",
	},
	{
		ci.Forbidden,
		[]string{"pull access denied", "unauthorized", "authentication required", "denied", "no basic auth"},
		"the registry refuses: there is no such repository, or this host may not read it; check the name, then run `docker login` on the host as the agent's user",
	},
	{
		ci.Unavailable,
		[]string{"no such host", "server misbehaving", "name resolution"},
		"the registry's name is not known to this host; check the image's name and the host's DNS",
	},
	{
		ci.Unavailable,
		[]string{"server gave HTTP response to HTTPS client"},
		"the registry speaks plain HTTP; list it under insecure-registries in the engine's daemon.json",
	},
	{
		ci.Unavailable,
		[]string{"x509", "certificate"},
		"the registry's certificate is not trusted; put its CA below /etc/docker/certs.d on the host",
	},
	{
		ci.Unavailable,
		[]string{"connection refused", "timeout", "deadline exceeded", "network is unreachable", "no route to host", "connection reset", "EOF", "Client.Timeout"},
		"the registry cannot be reached from this host; check the network, and the engine's proxy settings",
	},
	{
		ci.Exhausted,
		[]string{"no space left on device"},
		"the host's disk is full; remove images there (docker image prune)",
	},
}

func explainPull(name string, named reference.Named, err error) error {
	text := err.Error()
	for _, c := range pullCauses {
		for _, s := range c.says {
			if strings.Contains(text, s) {
				return pullProblem(ci.Errorf(c.kind, "cannot pull image %s: %s (%s said: %w)", name, c.means, reference.Domain(named), err))
			}
		}
	}
	return pullProblem(ci.Errorf(ci.KindOf(err), "cannot pull image %s: %w", name, err))
}

func pullProblem(err error) error {
	p := &runtime.Problem{Reason: ci.ReasonImagePull, Err: err}
	if reasonOf(err) == ci.ReasonDiskFull {
		p.Reason = ci.ReasonDiskFull
	}
	return p
}
