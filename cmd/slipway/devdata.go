package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/slipway-ci/slipway/shared/dirlock"
	"github.com/slipway-ci/slipway/shared/id"
)

// devData is the data folder of a dev fleet, held by one process at a time.
type devData struct {
	dir    string
	lock   *dirlock.Lock
	secret devSecrets
}

// devSecrets is secrets.json: what a first start makes up and every later one
// needs again. The ports are kept so that references to the registry and the
// store stay good over a restart.
type devSecrets struct {
	AccessKey    string `json:"s3_access_key"`
	SecretKey    string `json:"s3_secret_key"`
	GossipKey    []byte `json:"gossip_key"`
	S3Port       int    `json:"s3_port"`
	RegistryPort int    `json:"registry_port"`
}

// openDevData locks the folder and reads or makes its secrets.
func openDevData(dir string) (*devData, error) {
	if dir == "" {
		dir = filepath.Join(xdg("XDG_STATE_HOME", ".local/state"), "slipway", "dev")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot use the data folder: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the data folder: %w", err)
	}
	d := &devData{dir: dir}
	d.lock, err = dirlock.Take(filepath.Join(dir, "lock"))
	if errors.Is(err, dirlock.ErrHeld) {
		return nil, usagef("another `slipway dev` uses %s: stop it, or choose another folder with --data", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot use the data folder: %w", err)
	}
	if err := d.loadSecrets(); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *devData) close() { _ = d.lock.Release() } // the end of the process does the same

// path names a folder or file below the data folder.
func (d *devData) path(name string) string { return filepath.Join(d.dir, name) }

func (d *devData) loadSecrets() error {
	raw, err := os.ReadFile(d.path("secrets.json"))
	if err == nil {
		if err := json.Unmarshal(raw, &d.secret); err != nil {
			return fmt.Errorf("cannot read %s: %w", d.path("secrets.json"), err)
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot read the fleet's secrets: %w", err)
	}
	d.secret = devSecrets{
		AccessKey: "dev" + strings.ToUpper(id.New())[:17],
		SecretKey: id.Secret(30),
		GossipKey: []byte(id.Secret(32))[:32],
	}
	return d.saveSecrets()
}

func (d *devData) saveSecrets() error {
	raw, err := json.MarshalIndent(d.secret, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot write the fleet's secrets: %w", err)
	}
	return writeFile(d.path("secrets.json"), append(raw, '\n'), 0o600)
}

// listen opens a loopback port: the one used before where it is still free.
func listenLoopback(before int) (net.Listener, int, error) {
	if before > 0 {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", before)); err == nil {
			return l, before, nil
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, 0, fmt.Errorf("cannot open a port on loopback: %w", err)
	}
	return l, l.Addr().(*net.TCPAddr).Port, nil
}

// persistentID reads an id from a file, or makes one there.
func persistentID(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err == nil && id.Valid(strings.TrimSpace(string(raw))) {
		return strings.TrimSpace(string(raw)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("cannot read the id: %w", err)
	}
	made := id.New()
	return made, writeFile(path, []byte(made+"\n"), 0o644)
}
