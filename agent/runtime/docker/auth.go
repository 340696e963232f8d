package docker

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/docker/api/types/registry"
)

// registryAuth returns what `docker login` left for a registry on this host, as
// the engine wants it; empty is anonymous. Credential helpers are not asked: an
// agent has no session to unlock them.
func registryAuth(domain string) string {
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		dir = filepath.Join(home, ".docker")
	}
	b, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return ""
	}
	return authFrom(b, domain)
}

func authFrom(config []byte, domain string) string {
	var c struct {
		Auths map[string]struct {
			Auth          string `json:"auth"`
			IdentityToken string `json:"identitytoken"`
		} `json:"auths"`
	}
	if json.Unmarshal(config, &c) != nil {
		return ""
	}
	keys := []string{domain, "https://" + domain, "https://" + domain + "/v1/", "https://" + domain + "/v2/"}
	if domain == "docker.io" {
		keys = append(keys, "https://index.docker.io/v1/", "index.docker.io")
	}
	for _, key := range keys {
		entry, ok := c.Auths[key]
		if !ok {
			continue
		}
		plain, err := base64.StdEncoding.DecodeString(entry.Auth)
		if err != nil {
			continue
		}
		user, password, _ := strings.Cut(string(plain), ":")
		encoded, err := registry.EncodeAuthConfig(registry.AuthConfig{
			Username: user, Password: strings.TrimRight(password, "\x00"),
			IdentityToken: entry.IdentityToken, ServerAddress: domain,
		})
		if err == nil {
			return encoded
		}
	}
	return ""
}
