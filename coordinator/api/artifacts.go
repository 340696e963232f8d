package api

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/wire"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

// artifactTTL is how long an artifact's URL is good.
const artifactTTL = 10 * time.Minute

// kept is an artifact and the attempt that kept it.
type kept struct {
	step *ci.StepRun
	at   *ci.Attempt
	file ci.Artifact
}

// artifacts lists what steps kept: of each step the latest attempt that kept
// anything, or the one with the given number.
func artifacts(r *ci.Run, step string, number int) ([]kept, error) {
	steps := r.Steps
	if step != "" {
		s, err := findStep(r, step)
		if err != nil {
			return nil, err
		}
		steps = []*ci.StepRun{s}
	}
	var out []kept
	for _, s := range steps {
		at, err := keeper(r, s, number)
		if err != nil && step != "" {
			return nil, err
		}
		if at == nil {
			continue
		}
		for _, f := range at.Artifacts {
			out = append(out, kept{s, at, f})
		}
	}
	return out, nil
}

func keeper(r *ci.Run, s *ci.StepRun, number int) (*ci.Attempt, error) {
	if number != 0 {
		return findAttempt(r, s, number)
	}
	for i := len(s.Attempts) - 1; i >= 0; i-- {
		if len(s.Attempts[i].Artifacts) > 0 {
			return s.Attempts[i], nil
		}
	}
	return nil, nil
}

// ListArtifacts lists what a run's steps kept.
func (a *API) ListArtifacts(ctx context.Context, req *pb.ListArtifactsRequest) (*pb.ListArtifactsResponse, error) {
	r, err := a.find(ctx, a.cfg.Store.View(), req.GetRun())
	if err != nil {
		return nil, err
	}
	all, err := artifacts(r, req.GetStep(), 0)
	if err != nil {
		return nil, err
	}
	res := &pb.ListArtifactsResponse{}
	for _, k := range all {
		res.Artifacts = append(res.Artifacts, wire.Artifact(k.step.ID, k.at.Number, k.file))
	}
	return res, nil
}

// GetArtifact returns a URL to fetch an artifact from.
func (a *API) GetArtifact(ctx context.Context, req *pb.GetArtifactRequest) (*pb.GetArtifactResponse, error) {
	r, err := a.find(ctx, a.cfg.Store.View(), req.GetRun())
	if err != nil {
		return nil, err
	}
	all, err := artifacts(r, req.GetStep(), int(req.GetAttempt()))
	if err != nil {
		return nil, err
	}
	found, err := pick(r, all, req.GetPath())
	if err != nil {
		return nil, err
	}
	expires := time.Now().Add(artifactTTL)
	url, err := a.cfg.Logs.ArtifactURL(ctx, a.path(r, found.step.ID, found.at), found.file.Path, artifactTTL)
	if err != nil {
		return nil, err
	}
	return &pb.GetArtifactResponse{
		Url: url, Artifact: wire.Artifact(found.step.ID, found.at.Number, found.file), ExpiresAt: timestamppb.New(expires),
	}, nil
}

func pick(r *ci.Run, all []kept, path string) (kept, error) {
	var found []kept
	var have, steps []string
	for _, k := range all {
		have = append(have, k.file.Path)
		if k.file.Path == path {
			found = append(found, k)
			steps = append(steps, k.step.ID)
		}
	}
	switch len(found) {
	case 0:
		return kept{}, ci.FieldErrorf(ci.NotFound, "path", "run %s kept no artifact %q; it has %s", r.ID, path, names(have))
	case 1:
		return found[0], nil
	default:
		return kept{}, ci.FieldErrorf(ci.Invalid, "step", "several steps of run %s kept %q: name one of %s", r.ID, path, names(steps))
	}
}
