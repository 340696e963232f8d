package needs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

const (
	defaultSocket = "/var/run/docker.sock"
	// An engine under load answers slowly; one that is away refuses at once.
	askTimeout = 20 * time.Second
)

// Docker skips the test unless a Docker engine answers at DOCKER_HOST (unix://
// or tcp://), or at /var/run/docker.sock when that is unset. It speaks plain
// HTTP, so that no test links a Docker client for the question alone.
func Docker(t testing.TB) {
	t.Helper()
	if testing.Short() && os.Getenv(NoSkip) != "1" {
		t.Skip("SKIPPED: -short leaves the tests with a Docker engine out")
	}
	if err := ask(t.Context(), os.Getenv("DOCKER_HOST"), "/_ping"); err != nil {
		missing(t, "Docker", "no engine answers; deploy/docker-engine.sh starts one: %v", err)
	}
}

// Image skips the test unless the engine has the image; it implies Docker.
func Image(t testing.TB, ref string) {
	t.Helper()
	Docker(t)
	if err := ask(t.Context(), os.Getenv("DOCKER_HOST"), "/images/"+ref+"/json"); err != nil {
		missing(t, "image "+ref, "deploy/test-images.sh makes the test images: %v", err)
	}
}

// ask makes one GET of path and wants a 200.
func ask(ctx context.Context, host, path string) error {
	network, address, err := parseHost(host)
	if err != nil {
		return err
	}
	var dialer net.Dialer
	client := &http.Client{
		Timeout: askTimeout,
		Transport: &http.Transport{
			// One question, no idle connection left for a leak check to find.
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, network, address)
			},
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker"+path, nil)
	if err != nil {
		return fmt.Errorf("cannot ask the engine at %s: %w", address, err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("cannot ask the engine at %s: %w", address, err)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return fmt.Errorf("cannot read the engine's answer to %s: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("engine at %s answers %s to %s: %s", address, resp.Status, path, strings.TrimSpace(string(body)))
	}
	return nil
}

// parseHost turns a DOCKER_HOST into what net.Dial wants.
func parseHost(host string) (network, address string, err error) {
	if host == "" {
		return "unix", defaultSocket, nil
	}
	u, err := url.Parse(host)
	if err != nil {
		return "", "", fmt.Errorf("cannot parse DOCKER_HOST %q: %w", host, err)
	}
	switch u.Scheme {
	case "unix":
		return "unix", u.Path, nil
	case "tcp", "http":
		return "tcp", u.Host, nil
	default:
		return "", "", fmt.Errorf("cannot use DOCKER_HOST %q: want unix:// or tcp://", host)
	}
}
