package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/slipway-ci/slipway/agent"
	"github.com/slipway-ci/slipway/cmd/slipway/devregistry"
	"github.com/slipway-ci/slipway/coordinator"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/objectstore"
	"github.com/slipway-ci/slipway/shared/objectstore/s3dev"
	"github.com/slipway-ci/slipway/shared/pki"
	"github.com/slipway-ci/slipway/shared/version"
)

const (
	devRegion = "us-east-1"
	devBucket = "slipway"
	// devCertificate is how long the fleet's certificates last; a start makes new ones.
	devCertificate = 365 * 24 * time.Hour
)

// devFleet is a coordinator and an agent, with the store and the registry that
// a real fleet finds elsewhere. Nothing in them knows of it.
type devFleet struct {
	cli    *cli
	opt    devOptions
	data   *devData
	log    *slog.Logger
	docker bool
	engine string // version of the Docker engine

	authority *pki.Authority
	registry  net.Listener
	store     news[string]           // the store's endpoint, once it answers
	lead      news[coordinator.Info] // once the coordinator serves
	host      news[agent.Info]       // once the agent has registered
}

// run starts everything in the order of who needs whom, and stops it in reverse.
func (f *devFleet) run(ctx context.Context) error {
	var err error
	if f.authority, err = pki.OpenAuthority(f.data.path("ca")); err != nil {
		return err
	}
	f.store, f.lead, f.host = untold[string](), untold[coordinator.Info](), untold[agent.Info]()
	registry, err := devregistry.Open(f.data.path("registry"), f.log)
	if err != nil {
		return err
	}
	defer registry.Close()
	if f.registry, err = f.listenRegistry(); err != nil {
		return err
	}
	defer f.registry.Close()
	var g lifecycle.Group
	g.Add("S3", f.runS3)
	g.Add("registry", func(ctx context.Context) error { return serveHTTP(ctx, f.registry, registry) })
	g.Add("coordinator", f.runCoordinator)
	g.Add("agent", func(own context.Context) error { return f.runAgent(own, ctx) })
	g.Add("announcement", func(own context.Context) error { return f.runAnnouncement(own, ctx) })
	return g.Run(ctx)
}

func (f *devFleet) listenRegistry() (net.Listener, error) {
	l, port, err := listenLoopback(f.data.secret.RegistryPort)
	if err != nil {
		return nil, err
	}
	f.data.secret.RegistryPort = port
	return l, f.data.saveSecrets()
}

// runS3 serves the bucket, on the port it had before where that is still free:
// references to it outlive a restart.
func (f *devFleet) runS3(ctx context.Context) error {
	cfg := s3dev.Config{
		Dir: f.data.path("s3"), Listen: fmt.Sprintf("127.0.0.1:%d", f.data.secret.S3Port), Bucket: devBucket, Region: devRegion,
		AccessKey: f.data.secret.AccessKey, SecretKey: f.data.secret.SecretKey,
	}
	err := s3dev.Run(ctx, cfg, f.store.tell)
	if ci.KindOf(err) == ci.Conflict && f.data.secret.S3Port != 0 {
		cfg.Listen = "127.0.0.1:0"
		err = s3dev.Run(ctx, cfg, f.store.tell)
	}
	return err
}

// bucket describes the store to coordinator and agent.
func (f *devFleet) bucket(endpoint string) objectstore.Config {
	return objectstore.Config{
		Endpoint: endpoint, Region: devRegion, Bucket: devBucket, PathStyle: true,
		AccessKey: f.data.secret.AccessKey, SecretKey: f.data.secret.SecretKey,
	}
}

func (f *devFleet) runCoordinator(ctx context.Context) error {
	endpoint, ok := f.store.wait(ctx)
	if !ok {
		return nil
	}
	f.data.secret.S3Port = portOf(endpoint)
	if err := f.data.saveSecrets(); err != nil {
		return err
	}
	return coordinator.Run(ctx, coordinator.Config{
		Dir:           f.data.path("coordinator"),
		Listen:        f.opt.listen,
		NodeListen:    "127.0.0.1:0",
		Bootstrap:     true,
		Authority:     f.authority,
		Bucket:        f.bucket(endpoint),
		GossipBind:    "127.0.0.1:0",
		GossipKey:     f.data.secret.GossipKey,
		Registry:      f.registry.Addr().String(),
		InitialGrants: []string{ci.GrantDockerRaw},
		Log:           f.log.With("part", "coordinator"),
		Ready:         f.lead.tell,
	})
}

// runAgent runs the agent. fleet is the context that a signal ends: Ctrl-C
// cancels the steps, SIGTERM lets them run on.
func (f *devFleet) runAgent(ctx, fleet context.Context) error {
	lead, ok := f.lead.wait(ctx)
	if !ok {
		return nil
	}
	endpoint, _ := f.store.wait(ctx) // told before
	identity, err := f.agentIdentity()
	if err != nil {
		return err
	}
	executors := []string{ci.ExecutorProcess}
	if f.docker {
		executors = append(executors, ci.ExecutorDocker)
	}
	name, err := os.Hostname()
	if err != nil {
		name = "dev"
	}
	return agent.Run(ctx, agent.Config{
		Dir: f.data.path("agent"), Identity: identity, Name: name, Version: version.Version,
		Executors: executors, StepEnv: stepEnv(), Bucket: f.bucket(endpoint), Slots: devSlots,
		GossipBind: "127.0.0.1:0", GossipKey: f.data.secret.GossipKey, Seeds: func() []string { return []string{lead.Gossip} },
		CancelOnStop: func() bool { return !terminated(fleet) },
		Log:          f.log.With("part", "agent"),
		Ready:        f.host.tell,
	})
}

// devSlots is how many steps the agent takes at once: what they reserve, not
// their number, is what keeps a workstation usable.
const devSlots = 8

// agentIdentity issues a certificate for the agent, whose id lives on disk.
func (f *devFleet) agentIdentity() (*pki.Source, error) {
	dir := f.data.path("agent")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the agent's folder: %w", err)
	}
	nodeID, err := persistentID(filepath.Join(dir, "id"))
	if err != nil {
		return nil, err
	}
	bundle, err := f.authority.Issue(pki.RoleAgent, nodeID, []string{"127.0.0.1"}, devCertificate)
	if err != nil {
		return nil, err
	}
	return pki.NewSource(bundle)
}

// passedOn are the variables of the host that steps need to reach the world.
var passedOn = []string{
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
	"GOPROXY", "GONOSUMDB", "GONOSUMCHECK", "GOSUMDB", "GOFLAGS", "GOPRIVATE", "GOTOOLCHAIN",
}

// stepEnv is what every step of a dev fleet gets of its host's environment.
func stepEnv() map[string]string {
	env := map[string]string{}
	for _, name := range passedOn {
		if v, ok := os.LookupEnv(name); ok {
			env[name] = v
		}
	}
	return env
}

// runAnnouncement says that all is ready, and takes it back at the end.
func (f *devFleet) runAnnouncement(ctx, fleet context.Context) error {
	host, ok := f.host.wait(ctx)
	if !ok {
		return nil
	}
	lead, _ := f.lead.wait(ctx) // told before
	endpoint, _ := f.store.wait(ctx)
	f.engine = host.Docker
	err := f.announce(ctx, announcement{
		URL: "http://" + lead.Listen, TokenFile: lead.TokenFile, S3Endpoint: endpoint, Bucket: devBucket,
		Registry: f.registry.Addr().String(), DataDir: f.data.dir, PID: os.Getpid(),
	})
	if err == nil {
		<-ctx.Done()
	}
	if err == nil && !terminated(fleet) && isTerminal(f.cli.err) {
		// It may take as long as the longest grace of a step.
		fmt.Fprintln(f.cli.err, "\nstopping: steps that run are being canceled (a second Ctrl-C leaves them and ends at once)")
	}
	return errors.Join(err, retract())
}

// client speaks to the fleet itself.
func (f *devFleet) client(a announcement) (*client, error) {
	token, err := readToken(a.TokenFile)
	if err != nil {
		return nil, err
	}
	return dial(endpoint{url: a.URL, token: token, from: "this fleet"}), nil
}

// news is a value that one member of the fleet finds out and others wait for.
type news[T any] struct{ c chan T }

func untold[T any]() news[T] { return news[T]{make(chan T, 1)} }

// tell is called once.
func (n news[T]) tell(v T) { n.c <- v }

// wait takes the value and leaves it for the next; false when ctx ends first.
func (n news[T]) wait(ctx context.Context) (v T, ok bool) {
	select {
	case v = <-n.c:
		n.c <- v
		return v, true
	case <-ctx.Done():
		return v, false
	}
}

func portOf(endpoint string) int {
	_, port, _ := strings.Cut(strings.TrimPrefix(endpoint, "http://"), ":")
	n := 0
	_, _ = fmt.Sscan(port, &n) // the store says HOST:PORT; without a port it is 0, any
	return n
}

// serveHTTP serves until ctx ends.
func serveHTTP(ctx context.Context, l net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	var g lifecycle.Group
	g.Add("serve", func(context.Context) error {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Add("stop", func(ctx context.Context) error {
		<-ctx.Done()
		return srv.Close()
	})
	return g.Run(ctx)
}
