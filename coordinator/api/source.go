package api

import (
	"context"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/logpath"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

var (
	shaForm    = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
	sha256Form = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

const (
	maxName   = 1024    // bytes of a repository, ref, branch or tag
	maxUpload = 4 << 30 // bytes of a source archive
	uploadTTL = 15 * time.Minute
)

// source checks what code a run is to work on. It ends up on a git command
// line on a build host, so nothing odd passes here.
func (a *API) source(ctx context.Context, t ci.TenantID, req *pb.SubmitRunRequest) (ci.Source, error) {
	s := ci.Source{
		Repo: req.GetRepo(), SHA: strings.ToLower(req.GetSha()), Ref: req.GetRef(),
		Branch: req.GetBranch(), Tag: req.GetTag(), Archive: strings.ToLower(req.GetArchive()), Dirty: req.GetDirty(),
	}
	for _, f := range []struct{ field, value string }{
		{"repo", s.Repo}, {"ref", s.Ref}, {"branch", s.Branch}, {"tag", s.Tag},
	} {
		switch {
		case len(f.value) > maxName:
			return s, ci.FieldErrorf(ci.Invalid, f.field, "the %s has %d bytes, the most is %d", f.field, len(f.value), maxName)
		case strings.HasPrefix(f.value, "-"), strings.ContainsFunc(f.value, unicode.IsControl):
			return s, ci.FieldErrorf(ci.Invalid, f.field, "%q is no %s", f.value, f.field)
		}
	}
	switch {
	case strings.HasPrefix(s.Repo, "ext::"), strings.HasPrefix(s.Repo, "fd::"):
		return s, ci.FieldErrorf(ci.Invalid, "repo", "repository %q names a program to run, which is not allowed", s.Repo)
	case s.Ref != "" && !strings.HasPrefix(s.Ref, "refs/"):
		return s, ci.FieldErrorf(ci.Invalid, "ref", "the ref %q is not a full one like refs/heads/main", s.Ref)
	case s.SHA != "" && !shaForm.MatchString(s.SHA):
		return s, ci.FieldErrorf(ci.Invalid, "sha", "the sha %q is not a full commit id of 40 or 64 hex digits", s.SHA)
	case s.Repo != "" && s.SHA == "" && s.Archive == "":
		return s, ci.FieldErrorf(ci.Invalid, "sha", "a run of repository %s needs the full commit id in sha: a branch moves, a run does not", s.Repo)
	case s.Repo == "" && s.SHA != "" && s.Archive == "":
		return s, ci.FieldErrorf(ci.Invalid, "repo", "a run of commit %s needs the repository that has it in repo", s.SHA)
	case s.Archive == "":
		return s, nil
	case !sha256Form.MatchString(s.Archive):
		return s, ci.FieldErrorf(ci.Invalid, "archive", "the archive %q is not the sha256 of an upload", s.Archive)
	}
	_, err := a.cfg.Uploads.Stat(ctx, logpath.Source(a.cfg.Root, t, s.Archive))
	if ci.KindOf(err) == ci.NotFound && err != nil {
		return s, ci.FieldErrorf(ci.NotFound, "archive", "archive %s was not uploaded: ask CreateUpload where to put it", s.Archive)
	}
	return s, err
}

// CreateUpload says where to put a source archive.
func (a *API) CreateUpload(ctx context.Context, req *pb.CreateUploadRequest) (*pb.CreateUploadResponse, error) {
	t, err := a.tenant(ctx, req.GetTenant())
	if err != nil {
		return nil, err
	}
	sum := strings.ToLower(req.GetSha256())
	if !sha256Form.MatchString(sum) {
		return nil, ci.FieldErrorf(ci.Invalid, "sha256", "%q is not a sha256 in hex", sum)
	}
	if size := req.GetSize(); size < 1 || size > maxUpload {
		return nil, ci.FieldErrorf(ci.Invalid, "size", "cannot take an archive of %.0f bytes, the most is %d", size, int64(maxUpload))
	}
	key := logpath.Source(a.cfg.Root, t.ID, sum)
	have, err := a.cfg.Uploads.Stat(ctx, key)
	switch {
	case err == nil && float64(have.Size) == req.GetSize():
		return &pb.CreateUploadResponse{Exists: true}, nil
	case err != nil && ci.KindOf(err) != ci.NotFound:
		return nil, err
	}
	url, err := a.cfg.Uploads.PutURL(ctx, key, uploadTTL)
	if err != nil {
		return nil, err
	}
	return &pb.CreateUploadResponse{Url: url}, nil
}
