package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/slipway-ci/slipway/shared/ci"
)

// endpoint is a server and the token for it.
type endpoint struct {
	url   string
	token string
	from  string // where it was found, for error texts
}

// contextFile is ~/.config/slipway/config.yaml.
type contextFile struct {
	Current  string         `yaml:"current,omitempty"`
	Contexts []namedContext `yaml:"contexts,omitempty"`
}

// namedContext is one server of the config file.
type namedContext struct {
	Name      string `yaml:"name"`
	URL       string `yaml:"url"`
	Token     string `yaml:"token,omitempty"`
	TokenFile string `yaml:"token_file,omitempty"`
	Tenant    string `yaml:"tenant,omitempty"`
}

func (c *contextFile) find(name string) *namedContext {
	for i := range c.Contexts {
		if c.Contexts[i].Name == name {
			return &c.Contexts[i]
		}
	}
	return nil
}

// endpoint finds the server: flags, then SLIPWAY_URL and SLIPWAY_TOKEN, then
// the context, then a running dev.
func (c *cli) endpoint() (endpoint, error) {
	token := os.Getenv("SLIPWAY_TOKEN")
	if c.url != "" {
		return c.withToken(endpoint{url: c.url, token: token, from: "--url"})
	}
	if c.context == "" {
		if u := os.Getenv("SLIPWAY_URL"); u != "" {
			return c.withToken(endpoint{url: u, token: token, from: "SLIPWAY_URL"})
		}
	}
	file, err := loadContexts()
	if err != nil {
		return endpoint{}, err
	}
	name := c.context
	if name == "" {
		name = file.Current
	}
	if name != "" {
		return c.fromContext(file, name)
	}
	dev, err := loadAnnouncement()
	if err != nil {
		return endpoint{}, err
	}
	if dev == nil {
		return endpoint{}, ci.Errorf(ci.Unavailable,
			"no server to talk to: start a fleet on this machine with `slipway dev`, set SLIPWAY_URL and SLIPWAY_TOKEN, or add a context with `slipway context add`")
	}
	if token == "" {
		if token, err = readToken(dev.TokenFile); err != nil {
			return endpoint{}, err
		}
	}
	return endpoint{url: dev.URL, token: token, from: "the running dev"}, nil
}

// withToken fills a missing token from a running dev at the same URL.
func (c *cli) withToken(e endpoint) (endpoint, error) {
	if err := checkServer(e.from, e.url); err != nil {
		return e, err
	}
	if e.token != "" {
		return e, nil
	}
	if dev, err := loadAnnouncement(); err == nil && dev != nil && strings.TrimRight(dev.URL, "/") == strings.TrimRight(e.url, "/") {
		if e.token, err = readToken(dev.TokenFile); err != nil {
			return e, err
		}
	}
	return e, nil
}

// checkServer refuses what is no server's URL; from says where it came from.
func checkServer(from, server string) error {
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return usagef("cannot use %s %q: it must look like http://HOST:PORT", from, server)
	}
	return nil
}

func (c *cli) fromContext(file contextFile, name string) (endpoint, error) {
	ctx := file.find(name)
	if ctx == nil {
		return endpoint{}, usagef("no context %q in %s; `slipway context ls` shows them", name, contextPath())
	}
	if c.tenant == "" {
		c.tenant = ctx.Tenant
	}
	e := endpoint{url: ctx.URL, token: ctx.Token, from: "context " + name}
	if ctx.TokenFile != "" {
		token, err := readToken(ctx.TokenFile)
		if err != nil {
			return endpoint{}, err
		}
		e.token = token
	}
	if t := os.Getenv("SLIPWAY_TOKEN"); t != "" {
		e.token = t
	}
	return e, nil
}

func readToken(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", ci.Errorf(ci.Unauthenticated, "cannot read the token: %w", err)
	}
	return strings.TrimSpace(string(raw)), nil
}

func contextPath() string {
	return filepath.Join(xdg("XDG_CONFIG_HOME", ".config"), "slipway", "config.yaml")
}

// xdg returns a base folder of the XDG specification.
func xdg(env, fallback string) string {
	if dir := os.Getenv(env); filepath.IsAbs(dir) {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = os.TempDir() // no HOME, as in a bare container
	}
	return filepath.Join(home, fallback)
}

func loadContexts() (contextFile, error) {
	var file contextFile
	raw, err := os.ReadFile(contextPath())
	if errors.Is(err, fs.ErrNotExist) {
		return file, nil
	}
	if err != nil {
		return file, fmt.Errorf("cannot read the contexts: %w", err)
	}
	dec := yaml.NewDecoder(strings.NewReader(string(raw)))
	dec.KnownFields(true)
	if err := dec.Decode(&file); err != nil {
		return file, fmt.Errorf("cannot read %s: %w", contextPath(), err)
	}
	return file, nil
}

// announcement is what a dev fleet tells about itself, in dev.json and with -o json.
type announcement struct {
	URL        string `json:"url"`
	TokenFile  string `json:"token_file"`
	S3Endpoint string `json:"s3_endpoint"`
	Bucket     string `json:"bucket"`
	Registry   string `json:"registry"`
	DataDir    string `json:"data_dir"`
	PID        int    `json:"pid"`
}

func announcementPath() string {
	return filepath.Join(xdg("XDG_STATE_HOME", ".local/state"), "slipway", "dev.json")
}

// loadAnnouncement returns the running dev's announcement, nil without one.
func loadAnnouncement() (*announcement, error) {
	raw, err := os.ReadFile(announcementPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the announcement of dev: %w", err)
	}
	var a announcement
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w; delete it and start `slipway dev` again", announcementPath(), err)
	}
	if !alive(a.PID) { // left by a fleet that was killed
		return nil, nil
	}
	return &a, nil
}
