package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// gitTree is a work tree and what it says of itself.
type gitTree struct {
	root   string
	sha    string
	ref    string
	branch string
	tag    string
	dirty  bool
}

// git runs git in dir and returns what it printed, without the last newline.
func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		if text := strings.TrimSpace(errs.String()); text != "" {
			err = fmt.Errorf("%s: %w", text, err)
		}
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return strings.TrimSuffix(out.String(), "\n"), nil
}

// readTree describes the work tree around dir, or nil outside of one. rev
// chooses another commit than HEAD.
func readTree(ctx context.Context, dir, rev string) (*gitTree, error) {
	root, err := git(ctx, dir, "rev-parse", "--show-toplevel")
	if errors.Is(err, exec.ErrNotFound) {
		return nil, errors.New("cannot find git: install it, or use --file with a workflow that needs no checkout")
	}
	if err != nil {
		return nil, nil
	}
	tree := &gitTree{root: root}
	if rev == "" {
		rev = "HEAD"
	}
	if tree.sha, err = git(ctx, root, "rev-parse", "--verify", "--quiet", rev+"^{commit}"); err != nil {
		if rev == "HEAD" {
			return tree, nil // no commit yet: only --local can work
		}
		return nil, usagef("cannot find the commit %q in %s: fetch it first, or check its name", rev, root)
	}
	tree.name(ctx, rev)
	status, err := git(ctx, root, "status", "--porcelain")
	if err != nil {
		return nil, err
	}
	tree.dirty = status != ""
	return tree, nil
}

// name finds branch, tag and ref of the commit.
func (t *gitTree) name(ctx context.Context, rev string) {
	if full, err := git(ctx, t.root, "rev-parse", "--symbolic-full-name", rev); err == nil && strings.HasPrefix(full, "refs/") {
		t.ref = full
	}
	if branch, ok := strings.CutPrefix(t.ref, "refs/heads/"); ok {
		t.branch = branch
	}
	if tag, ok := strings.CutPrefix(t.ref, "refs/tags/"); ok {
		t.tag = tag
	} else if tag, err := git(ctx, t.root, "describe", "--tags", "--exact-match", t.sha); err == nil {
		t.tag = tag
	}
}

// remote says from where an agent can fetch the commit: origin where the
// commit has been pushed, else the work tree itself for a fleet on this host.
func (t *gitTree) remote(ctx context.Context, server string) (string, error) {
	if pushed, err := git(ctx, t.root, "branch", "--remotes", "--contains", t.sha); err == nil && pushed != "" {
		name, _, _ := strings.Cut(strings.TrimSpace(strings.SplitN(pushed, "\n", 2)[0]), "/")
		if u, err := git(ctx, t.root, "remote", "get-url", name); err == nil {
			return absolute(t.root, u), nil
		}
	}
	if loopback(server) {
		return t.root, nil
	}
	return "", usagef("cannot run %s: no remote of %s has it, and the fleet is on another host; push it, or use --local or --repo", t.sha[:12], t.root)
}

// absolute makes a remote that is a relative path one that means the same elsewhere.
func absolute(root, remote string) string {
	if strings.Contains(remote, "://") || filepath.IsAbs(remote) {
		return remote
	}
	if _, err := os.Stat(filepath.Join(root, remote)); err == nil {
		return filepath.Join(root, remote)
	}
	return remote // host:path, as ssh has it
}

func loopback(server string) bool {
	u, err := url.Parse(server)
	if err != nil {
		return false
	}
	if u.Hostname() == "localhost" {
		return true
	}
	ip := net.ParseIP(u.Hostname())
	return ip != nil && ip.IsLoopback()
}

// workflowFile is a workflow's text and its name for messages.
type workflowFile struct {
	name string
	text []byte
}

// findWorkflow picks the workflow of a tree: the named one, or the only one.
// With local the work tree is read, else the commit.
func (t *gitTree) findWorkflow(ctx context.Context, name string, local bool) (*workflowFile, error) {
	paths, err := t.workflows(ctx, local)
	if err != nil {
		return nil, err
	}
	var hits []string
	for _, p := range paths {
		base := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(p), ".yaml"), ".yml")
		if name == "" || name == base || name == p || name == filepath.Base(p) {
			hits = append(hits, p)
		}
	}
	if name == "" && len(hits) > 1 { // workflow.yaml is the one to run by default
		for _, p := range hits {
			if filepath.Base(p) == "workflow.yaml" {
				hits = []string{p}
				break
			}
		}
	}
	switch {
	case len(paths) == 0:
		return nil, usagef("cannot find a workflow: %s has no .slipway/*.yaml%s; `slipway init` writes one", t.root, commitNote(t, local))
	case len(hits) == 0:
		return nil, usagef("cannot find the workflow %q%s; there are %s", name, commitNote(t, local), strings.Join(paths, ", "))
	case len(hits) > 1:
		return nil, usagef("which workflow? Name one of %s", strings.Join(hits, ", "))
	}
	return t.read(ctx, hits[0], local)
}

func commitNote(t *gitTree, local bool) string {
	if local || t.sha == "" {
		return ""
	}
	return " in commit " + t.sha[:12] + " (commit it, or use --local)"
}

func (t *gitTree) workflows(ctx context.Context, local bool) ([]string, error) {
	var found []string
	if local || t.sha == "" {
		for _, pattern := range []string{".slipway/*.yaml", ".slipway/*.yml"} {
			hits, err := filepath.Glob(filepath.Join(t.root, pattern))
			if err != nil {
				return nil, err
			}
			for _, h := range hits {
				rel, _ := filepath.Rel(t.root, h)
				found = append(found, rel)
			}
		}
		return found, nil
	}
	list, err := git(ctx, t.root, "ls-tree", "--name-only", t.sha, ".slipway/")
	if err != nil {
		return nil, err
	}
	for p := range strings.SplitSeq(list, "\n") {
		if (strings.HasSuffix(p, ".yaml") || strings.HasSuffix(p, ".yml")) && filepath.Base(p) != "service.yaml" {
			found = append(found, p)
		}
	}
	return found, nil
}

func (t *gitTree) read(ctx context.Context, path string, local bool) (*workflowFile, error) {
	if local || t.sha == "" {
		text, err := os.ReadFile(filepath.Join(t.root, path))
		if err != nil {
			return nil, fmt.Errorf("cannot read the workflow: %w", err)
		}
		return &workflowFile{path, text}, nil
	}
	text, err := git(ctx, t.root, "show", t.sha+":"+path)
	if err != nil {
		return nil, err
	}
	return &workflowFile{path, []byte(text + "\n")}, nil
}
