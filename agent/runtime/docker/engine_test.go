package docker_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/agent/runtime/docker"
	"github.com/slipway-ci/slipway/agent/runtime/runtimetest"
	"github.com/slipway-ci/slipway/shared/ci"
)

var quiet = log.New(io.Discard, "", 0)

func random() string { return strings.ToLower(rand.Text()) }

type text struct{ strings.Builder }

func (o *text) Write(r runtime.Record) error {
	o.Builder.Write(r.Data)
	if !r.Partial {
		o.WriteByte('\n')
	}
	return nil
}

func prepare(t testing.TB, r *docker.Runtime, s runtime.Spec) runtime.Handle {
	t.Helper()
	s.Attempt = ci.AttemptID("test-" + random())
	s.Dir = t.TempDir()
	if s.Pull == "" {
		s.Pull = ci.PullNever
	}
	h, err := r.Prepare(t.Context(), s)
	if err != nil {
		t.Fatalf("Prepare: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := r.Remove(ctx, h); err != nil {
			t.Errorf("Remove: %v", err)
		}
	})
	return h
}

func start(t testing.TB, r *docker.Runtime, s runtime.Spec) runtime.Handle {
	t.Helper()
	h := prepare(t, r, s)
	if err := r.Start(t.Context(), h); err != nil {
		t.Fatalf("Start: %v", err)
	}
	return h
}

func run(t testing.TB, r *docker.Runtime, s runtime.Spec) (string, runtime.Exit) {
	t.Helper()
	h := start(t, r, s)
	var out text
	if err := r.Logs(t.Context(), h, "", &out); err != nil {
		t.Errorf("Logs: %v", err)
	}
	e, err := r.Wait(t.Context(), h)
	if err != nil {
		t.Fatalf("Wait: %v", err)
	}
	return out.String(), e
}

// away is an engine that can be away: a socket in front of the real one.
type away struct {
	t    testing.TB
	path string
	real string

	mu    sync.Mutex
	ln    net.Listener
	conns map[net.Conn]bool
	group errgroup.Group
}

func newAway(t testing.TB) *away {
	t.Helper()
	realSocket, ok := strings.CutPrefix(os.Getenv("DOCKER_HOST"), "unix://")
	if !ok {
		realSocket = "/var/run/docker.sock"
	}
	// Paths of sockets are short.
	dir, err := os.MkdirTemp("", "slipway-")
	if err != nil {
		t.Fatal(err)
	}
	a := &away{t: t, path: filepath.Join(dir, "d.sock"), real: realSocket, conns: map[net.Conn]bool{}}
	a.come()
	t.Cleanup(func() {
		a.leave()
		if err := errors.Join(a.group.Wait(), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	return a
}

func (a *away) come() {
	ln, err := net.Listen("unix", a.path)
	if err != nil {
		a.t.Error(err)
		return
	}
	a.mu.Lock()
	a.ln = ln
	a.mu.Unlock()
	a.group.Go(func() error {
		for {
			c, err := ln.Accept()
			if err != nil {
				return nil
			}
			a.group.Go(func() error { a.serve(c); return nil })
		}
	})
}

func (a *away) serve(c net.Conn) {
	up, err := net.Dial("unix", a.real)
	if err != nil {
		_ = c.Close()
		return
	}
	a.mu.Lock()
	a.conns[c], a.conns[up] = true, true
	gone := a.ln == nil
	a.mu.Unlock()
	if gone {
		_, _ = c.Close(), up.Close()
	}
	var g errgroup.Group
	pipe := func(to, from net.Conn) func() error {
		return func() error {
			_, _ = io.Copy(to, from)
			_, _ = to.Close(), from.Close()
			return nil
		}
	}
	g.Go(pipe(up, c))
	g.Go(pipe(c, up))
	_ = g.Wait()
}

// leave refuses everybody and cuts all that is under way.
func (a *away) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ln != nil {
		_ = a.ln.Close()
		a.ln = nil
	}
	for c := range a.conns {
		_ = c.Close()
	}
	clear(a.conns)
}

// The engine goes away in the middle: nothing is lost, nothing comes twice, and
// the exit code is the true one.
func TestEngineAway(t *testing.T) {
	t.Parallel()
	runtimetest.NeedImage(t)
	engine := newAway(t)
	cfg := fleet()
	cfg.Host = "unix://" + engine.path
	r := open(t, cfg)
	dir := t.TempDir()
	h := start(t, r, runtime.Spec{
		Image: runtimetest.Image, WorkDir: "/w", Mounts: []runtime.Mount{{Source: dir, Target: "/w"}},
		Script: "seq 1 2000; while [ ! -e go ]; do sleep 0.05; done; seq 2001 4000; exit 7",
	})
	var out text
	first := make(chan bool)
	var g errgroup.Group
	g.Go(func() error {
		sink := sinkFunc(func(rec runtime.Record) error {
			if string(rec.Data) == "2000" {
				close(first)
			}
			return out.Write(rec)
		})
		return r.Logs(t.Context(), h, "", sink)
	})
	g.Go(func() error {
		e, err := r.Wait(t.Context(), h)
		if e.Code != 7 || e.Reason != "" {
			t.Errorf("Wait = %+v, want code 7", e)
		}
		return err
	})
	select {
	case <-first:
	case <-time.After(time.Minute):
		t.Fatal("no log")
	}
	engine.leave()
	if err := os.WriteFile(dir+"/go", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Ping(t.Context()); ci.KindOf(err) != ci.Unavailable {
		t.Errorf("Ping of an engine that is away: %v", err)
	}
	engine.come()
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(out.String())
	if len(lines) != 4000 || lines[0] != "1" || lines[1999] != "2000" || lines[3999] != "4000" {
		t.Errorf("%d lines", len(lines))
	}
}

type sinkFunc func(runtime.Record) error

func (f sinkFunc) Write(r runtime.Record) error { return f(r) }

// A container that the engine took along when it went is not the step's failure;
// nor is one that somebody killed.
func TestKilledFromOutside(t *testing.T) {
	t.Parallel()
	runtimetest.NeedImage(t)
	engine := newAway(t)
	cfg := fleet()
	cfg.Host = "unix://" + engine.path
	r := open(t, cfg)
	for _, tt := range []struct {
		away bool
		want ci.Reason
	}{{true, ci.ReasonDockerRestarted}, {false, ci.ReasonInfra}} {
		h := start(t, r, runtime.Spec{Image: runtimetest.Image, Script: "sleep 600"})
		var g errgroup.Group
		g.Go(func() error {
			e, err := r.Wait(t.Context(), h)
			if e.Code != 137 || e.Reason != tt.want {
				t.Errorf("engine away %t: %+v, want code 137 and reason %s", tt.away, e, tt.want)
			}
			return err
		})
		if tt.away {
			engine.leave()
		}
		cli(t, "kill", h.ID)
		if tt.away {
			engine.come()
		}
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
	}
}

func TestOwnObjectsOnly(t *testing.T) {
	t.Parallel()
	runtimetest.NeedImage(t)
	cfg := fleet()
	r := open(t, cfg)
	h := prepare(t, r, runtime.Spec{Image: runtimetest.Image, Command: []string{"true"}})
	// A child of a step with its labels, as the gate makes it.
	child := cli(t, "create", "--label", docker.LabelCluster+"="+cfg.Cluster, "--label", docker.LabelAgent+"="+string(cfg.Agent),
		"--label", docker.LabelAttempt+"="+string(h.Attempt), runtimetest.Image)
	t.Cleanup(func() { cli(t, "rm", "-f", child) })
	got, err := r.List(t.Context())
	if err != nil || len(got) != 1 || got[h.Attempt].ID != h.ID {
		t.Errorf("List = %v, %v, want the step's container alone", got, err)
	}
	neighbour := cfg
	neighbour.Agent = "another"
	if got, err := open(t, neighbour).List(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("another agent lists %v, %v", got, err)
	}
	// The name is taken by somebody else.
	id := ci.AttemptID("test-" + random())
	foreign := cli(t, "create", "--name", "slipway-"+string(id), runtimetest.Image)
	t.Cleanup(func() { cli(t, "rm", "-f", foreign) })
	_, err = r.Prepare(t.Context(), runtime.Spec{Attempt: id, Image: runtimetest.Image, Pull: ci.PullNever, Command: []string{"true"}, Dir: t.TempDir()})
	problem(t, err, ci.ReasonInfra, "not ours")
	if _, err := docker.New(docker.Config{}); ci.KindOf(err) != ci.Invalid {
		t.Errorf("New without ids: %v", err)
	}
}
