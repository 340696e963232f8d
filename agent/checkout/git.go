package checkout

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
)

// checkout puts exactly one commit into target and returns the mirror.
func (m *Manager) checkout(ctx context.Context, req Request, target string, tell func(string)) (string, error) {
	if !hexID(req.Source.SHA) {
		return "", ci.Errorf(ci.Invalid, "cannot check out %q: it is no whole commit id", req.Source.SHA)
	}
	mirror, err := m.fetch(ctx, req, tell)
	if err != nil {
		return "", err
	}
	if err := m.populate(ctx, req, mirror, target); err != nil {
		return "", fmt.Errorf("cannot check out %s of %s: %w", req.Source.SHA[:12], redact(req.Source.Repo), err)
	}
	if req.Checkout.Submodules {
		if err := m.git(ctx, target, "submodule", "--quiet", "update", "--init", "--recursive"); err != nil {
			return "", fmt.Errorf("cannot check out the submodules of %s: %w", redact(req.Source.Repo), err)
		}
	}
	if req.Checkout.LFS {
		if err := m.git(ctx, target, "lfs", "pull"); err != nil {
			return "", fmt.Errorf("cannot fetch the large files of %s (is git-lfs on this host?): %w", redact(req.Source.Repo), err)
		}
	}
	return mirror, stamp(target, m.commitTime(ctx, target))
}

// populate makes target a repository whose objects are the mirror's own, or,
// with a depth, a shallow clone of it.
func (m *Manager) populate(ctx context.Context, req Request, mirror, target string) error {
	sha := req.Source.SHA
	if err := m.git(ctx, target, "init", "--quiet", "--initial-branch=slipway", "."); err != nil {
		return err
	}
	if err := m.git(ctx, target, "remote", "add", "origin", req.Source.Repo); err != nil {
		return err
	}
	if depth := req.Checkout.Depth; depth > 0 {
		if err := m.git(ctx, target, "fetch", "--quiet", "--no-tags", fmt.Sprintf("--depth=%d", depth), "file://"+mirror, sha); err != nil {
			return err
		}
	} else {
		alternates := filepath.Join(target, ".git", "objects", "info", "alternates")
		if err := os.WriteFile(alternates, []byte(filepath.Join(mirror, "objects")+"\n"), 0o644); err != nil {
			return err
		}
	}
	if err := m.git(ctx, target, "-c", "advice.detachedHead=false", "checkout", "--quiet", "--detach", sha); err != nil {
		return err
	}
	if req.Source.Branch != "" {
		// a local branch of the same name, so that tools which ask git see it
		if err := m.git(ctx, target, "checkout", "--quiet", "-B", req.Source.Branch, sha); err != nil {
			m.cfg.Log.Debug("no local branch", "branch", req.Source.Branch, "error", err)
		}
	}
	if req.Source.Tag != "" { // for git describe; the other tags are not fetched
		if err := m.git(ctx, target, "update-ref", "refs/tags/"+req.Source.Tag, sha); err != nil {
			m.cfg.Log.Debug("no local tag", "tag", req.Source.Tag, "error", err)
		}
	}
	return nil
}

// fetch brings the commit into the mirror, unless it is there.
func (m *Manager) fetch(ctx context.Context, req Request, tell func(string)) (string, error) {
	mirror := m.mirrorDir(req.Tenant, req.Source.Repo)
	unlock, err := m.lock(ctx, mirror, req.Attempt)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(filepath.Join(mirror, "HEAD")); errors.Is(err, fs.ErrNotExist) {
		if err := m.newMirror(ctx, mirror); err != nil {
			return "", fmt.Errorf("cannot make a mirror of %s: %w", redact(req.Source.Repo), err)
		}
	}
	sha := req.Source.SHA
	if m.has(ctx, mirror, sha) {
		return mirror, nil
	}
	begun := time.Now()
	// The commit itself first: it costs least. A server that gives only what a
	// branch or tag points to gets asked for everything.
	exact := m.git(ctx, mirror, "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", req.Source.Repo, "+"+sha+":refs/slipway/"+sha)
	if exact != nil {
		if err := m.git(ctx, mirror, "fetch", "--quiet", "--no-write-fetch-head", req.Source.Repo, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"); err != nil {
			return "", fmt.Errorf("cannot fetch from %s: %w", redact(req.Source.Repo), err)
		}
	}
	if !m.has(ctx, mirror, sha) {
		return "", fmt.Errorf("cannot find commit %s in %s: push it first, or check the repository (%w)", sha[:12], redact(req.Source.Repo), exact)
	}
	tell(fmt.Sprintf("fetched %s of %s in %.1f s", sha[:12], redact(req.Source.Repo), time.Since(begun).Seconds()))
	return mirror, nil
}

// newMirror makes a bare repository beside its place and renames it, so that a
// crash leaves no half of one.
func (m *Manager) newMirror(ctx context.Context, mirror string) error {
	part := mirror + ".new"
	if err := empty(part); err != nil {
		return err
	}
	if err := m.git(ctx, part, "init", "--quiet", "--bare", "."); err != nil {
		return err
	}
	// gc would take objects away from work trees that borrow them
	if err := m.git(ctx, part, "config", "gc.auto", "0"); err != nil {
		return err
	}
	return os.Rename(part, mirror)
}

// lock takes the mirror for one fetch and notes who uses it.
func (m *Manager) lock(ctx context.Context, mirror string, attempt ci.AttemptID) (func(), error) {
	m.mu.Lock()
	gate := m.mirrors[mirror]
	if gate == nil {
		gate = make(chan struct{}, 1)
		m.mirrors[mirror] = gate
	}
	if m.uses[mirror] == nil {
		m.uses[mirror] = map[ci.AttemptID]bool{}
	}
	m.uses[mirror][attempt] = true
	m.mu.Unlock()
	select {
	case gate <- struct{}{}:
		return func() { <-gate }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *Manager) mirrorDir(tenant ci.TenantID, repo string) string {
	sum := sha256.Sum256([]byte(repo))
	name := safe(strings.TrimSuffix(filepath.Base(redact(repo)), ".git"))
	return filepath.Join(m.cfg.Dir, "mirrors", string(tenant), name+"-"+hex.EncodeToString(sum[:8])+".git")
}

func (m *Manager) has(ctx context.Context, repo, sha string) bool {
	return m.git(ctx, repo, "cat-file", "-e", sha+"^{commit}") == nil
}

// git runs git with a clean configuration: nothing of the host's user, no
// prompts, every folder trusted.
func (m *Manager) git(ctx context.Context, dir string, args ...string) error {
	_, err := m.gitOutput(ctx, dir, args...)
	return err
}

func (m *Manager) gitOutput(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	cmd.Env = append(m.environment(), m.cfg.Env...)
	cmd.WaitDelay = 5 * time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.Is(err, exec.ErrNotFound):
		return "", errors.New("git is not on this host: install it")
	case err != nil:
		if text := strings.TrimSpace(errs.String()); text != "" {
			return "", fmt.Errorf("git %s: %s: %w", args[0], text, err)
		}
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return strings.TrimSpace(out.String()), nil
}

func (m *Manager) environment() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "GIT_") { // a GIT_DIR of the caller would lead every call astray
			env = append(env, kv)
		}
	}
	return append(env,
		"GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_COUNT=2", "LC_ALL=C",
		"GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
		"GIT_CONFIG_KEY_1=protocol.file.allow", "GIT_CONFIG_VALUE_1=always",
	)
}

// commitTime is the time that every file of the work tree gets.
func (m *Manager) commitTime(ctx context.Context, dir string) time.Time {
	text, err := m.gitOutput(ctx, dir, "show", "--no-patch", "--format=%ct", "HEAD")
	var seconds int64
	if err != nil {
		return time.Time{}
	}
	if _, err := fmt.Sscan(text, &seconds); err != nil {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}

// stamp gives every file the commit's time: tools that key their caches by
// time (go test among them) then see the same tree in every attempt.
func stamp(dir string, at time.Time) error {
	if at.IsZero() {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == ".git":
			return fs.SkipDir
		case d.Type()&fs.ModeSymlink != 0:
			return nil // Chtimes would follow it
		}
		return os.Chtimes(path, at, at)
	})
}

// redact takes the password out of a URL, for messages.
func redact(repo string) string {
	scheme, rest, ok := strings.Cut(repo, "://")
	if !ok {
		return repo
	}
	host, path, _ := strings.Cut(rest, "/")
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		host = "***" + host[at:]
	}
	return scheme + "://" + host + "/" + path
}

func hexID(s string) bool {
	if len(s) != 40 && len(s) != 64 {
		return false
	}
	_, err := hex.DecodeString(s)
	return err == nil
}
