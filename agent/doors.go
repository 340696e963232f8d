package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/slipway-ci/slipway/agent/gateway/s3gate"
	"github.com/slipway-ci/slipway/agent/gateway/stepapi"
	"github.com/slipway-ci/slipway/agent/supervisor"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/logpath"
)

// doors are the addresses at which steps reach the S3 endpoint, by executor.
// They are kept on disk: a step that runs on while the agent restarts knows
// the old ones.
type doors struct {
	open map[string]net.Listener
}

const doorsFile = "s3-endpoints.json"

// listen opens a door on loopback for processes and one on the steps' network
// for containers.
func listen(cfg Config, gateway string) (*doors, error) {
	name := filepath.Join(cfg.Dir, doorsFile)
	old := map[string]string{}
	data, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(data, &old)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		cfg.Log.Warn("the old addresses of the S3 endpoint for steps are lost", "error", err)
	}
	hosts := map[string]string{}
	if cfg.has(ci.ExecutorProcess) {
		hosts[ci.ExecutorProcess] = "127.0.0.1"
	}
	if cfg.has(ci.ExecutorDocker) {
		hosts[ci.ExecutorDocker] = gateway
	}
	d := &doors{open: map[string]net.Listener{}}
	now := map[string]string{}
	for executor, host := range hosts {
		l, err := listenAt(cfg, host, old[executor])
		if err != nil {
			d.close()
			return nil, ci.Errorf(ci.Unavailable, "cannot open the S3 endpoint for %s steps on %s: %w", executor, host, err)
		}
		d.open[executor], now[executor] = l, l.Addr().String()
	}
	if data, err = json.Marshal(now); err == nil {
		err = os.WriteFile(name, data, 0o600)
	}
	if err != nil {
		d.close()
		return nil, fmt.Errorf("cannot keep the addresses of the S3 endpoint for steps: %w", err)
	}
	return d, nil
}

func listenAt(cfg Config, host, old string) (net.Listener, error) {
	if h, _, err := net.SplitHostPort(old); err == nil && h == host {
		l, err := net.Listen("tcp", old)
		if err == nil {
			return l, nil
		}
		cfg.Log.Warn("the S3 endpoint for steps moves: steps that run on lose it", "from", old, "error", err)
	}
	return net.Listen("tcp", net.JoinHostPort(host, "0"))
}

// close closes the listeners; those that were served are closed already.
func (d *doors) close() {
	for _, l := range d.open {
		_ = l.Close()
	}
}

// s3Door is supervisor.S3Gate.
type s3Door struct {
	gate   *s3gate.Gate
	doors  *doors
	region string
}

func (d s3Door) Add(attempt ci.AttemptID, executor string, path logpath.Path, g supervisor.S3Grant) (supervisor.S3Grant, error) {
	l := d.doors.open[executor]
	if l == nil {
		return g, ci.Errorf(ci.Internal, "there is no S3 endpoint for %s steps", executor)
	}
	g.Endpoint, g.Region = "http://"+l.Addr().String(), d.region
	return g, d.gate.Add(s3gate.Grant{
		AttemptID: string(attempt), AccessKey: g.AccessKey, SecretKey: g.SecretKey,
		Bucket: path.Bucket(), Prefix: path.Prefix(),
	})
}

func (d s3Door) Remove(attempt ci.AttemptID) { d.gate.Remove(string(attempt)) }

// apiDoor is supervisor.StepAPI.
type apiDoor struct{ *stepapi.Server }

func (d apiDoor) Add(a *supervisor.Assignment, token, reportDir string) (string, error) {
	return d.Server.Add(stepapi.Grant{
		Step: stepapi.Step{
			Tenant: a.Tenant, Run: a.Run, Workflow: a.Workflow, Step: a.Step.ID, Attempt: a.Attempt,
			Number: a.Number, Fence: a.Fence, LogPath: a.LogPath, ReportDir: reportDir,
		},
		Token: token, ReportDir: reportDir,
	})
}
