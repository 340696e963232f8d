//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// apiClient calls the API as curl would. It belongs to one fleet's address, so
// that it outlives the fleet's process.
type apiClient struct {
	url, token string
	http       *http.Client
}

func (f *fleet) api() *apiClient {
	return &apiClient{f.URL, f.token, &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
}

// errAway is what a repeat may mend.
var errAway = errors.New("the server is away")

// call posts JSON and reads JSON; errAway wraps what a repeat may mend.
func (c *apiClient) call(method string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequest(http.MethodPost, c.url+"/slipway.v1."+method, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/json")
	res, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", errAway, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	switch {
	case err != nil, res.StatusCode == http.StatusServiceUnavailable:
		return fmt.Errorf("%w: %s %s: %w", errAway, res.Status, text, err)
	case res.StatusCode != http.StatusOK:
		return fmt.Errorf("%s answers %s: %s", method, res.Status, text)
	}
	return json.Unmarshal(text, out)
}

// submitAnswer is what SubmitRun answers, as far as these tests look.
type submitAnswer struct {
	Run     struct{ ID, State string } `json:"run"`
	Existed bool                       `json:"existed"`
}

// submitted is a run that was acknowledged.
type submitted struct {
	key, run string
	code     int // what its step exits with
}

// load submits runs until told to stop, each with a key, each repeated until it
// is acknowledged.
type load struct {
	api    *apiClient
	marks  string // folder where each attempt leaves a mark
	stop   atomic.Bool
	mu     sync.Mutex
	acked  []submitted
	repeat int
}

func (l *load) client(n int) error {
	for i := 0; !l.stop.Load(); i++ {
		s := submitted{key: fmt.Sprintf("client-%d-%d", n, i), code: i % 3}
		yaml := head + fmt.Sprintf("steps:\n- { id: s, run: 'echo \"$SLIPWAY_ATTEMPT\" >> %s/$SLIPWAY_RUN_ID; echo \"log of $SLIPWAY_RUN_ID\"; sleep 0.1; exit %d' }\n", l.marks, s.code)
		req := map[string]any{"workflow_yaml": yaml, "file": "load.yaml", "idempotency_key": s.key}
		for {
			var res submitAnswer
			err := l.api.call("RunService/SubmitRun", req, &res)
			if errors.Is(err, errAway) {
				l.mu.Lock()
				l.repeat++
				l.mu.Unlock()
				<-time.After(20 * time.Millisecond)
				continue
			}
			if err != nil {
				return err
			}
			s.run = res.Run.ID
			break
		}
		l.mu.Lock()
		l.acked = append(l.acked, s)
		l.mu.Unlock()
	}
	return nil
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// TestE2ETenKills kills the fleet ten times while clients submit: each
// acknowledged run exists once and ends in a true state.
func TestE2ETenKills(t *testing.T) {
	t.Parallel()
	f := startFleet(t, noDocker(), onePort(t))
	l := &load{api: f.api(), marks: f.path("marks")}
	if err := os.Mkdir(l.marks, 0o777); err != nil {
		t.Fatal(err)
	}
	var clients errgroup.Group
	for n := range 3 {
		clients.Go(func() error {
			err := l.client(n)
			if err != nil {
				t.Errorf("client %d: %v", n, err)
			}
			return err
		})
	}
	var ready []time.Duration
	for range 10 {
		more := l.count() + 2 + rand.IntN(6)
		f.eventually("clients get answers", func() bool { return l.count() >= more })
		f.kill()
		ready = append(ready, f.readyIn())
	}
	l.stop.Store(true)
	if clients.Wait() != nil {
		return
	}
	t.Logf("10 kills under load: %d runs acknowledged, %d calls repeated, ready again after %v", len(l.acked), l.repeat, ready)
	l.check(t, f)
	f.nothingLeft()
}

// check holds each acknowledged run to what it must have become.
func (l *load) check(t *testing.T, f *fleet) {
	t.Helper()
	ids := strings.Fields(f.must("runs", "ls", "--limit", "500", "-o", "name").stdout)
	if len(ids) != len(l.acked) {
		t.Errorf("there are %d runs, %d were acknowledged", len(ids), len(l.acked))
	}
	seen, more := map[string]bool{}, 0
	for _, s := range l.acked {
		if seen[s.run] {
			t.Errorf("run %s was acknowledged for two keys", s.run)
		}
		seen[s.run] = true
		var again submitAnswer
		// A repeat long after is the same run still, whatever it says.
		if err := l.api.call("RunService/SubmitRun", map[string]any{"workflow_yaml": head + "steps: [{ run: exit 0 }]", "idempotency_key": s.key}, &again); err != nil || again.Run.ID != s.run || !again.Existed {
			t.Errorf("key %s gives run %s (existed %v, %v), it gave %s", s.key, again.Run.ID, again.Existed, err, s.run)
		}
		r := l.final(f, s.run)
		more += len(r.Steps[0].Attempts) - 1
		l.checkRun(t, s, r)
	}
	t.Logf("%d attempts beyond the first", more)
}

// final reads a run once it is final.
func (l *load) final(f *fleet, id string) *runJSON {
	f.t.Helper()
	var res struct{ Run runJSON }
	f.eventually("run "+id+" is final", func() bool {
		err := l.api.call("RunService/GetRun", map[string]any{"run": id}, &res)
		if err != nil {
			f.t.Fatalf("run %s: %v", id, err)
		}
		return res.Run.Final
	})
	return &res.Run
}

// log reads the whole log of a run's step, as text.
func (l *load) log(t *testing.T, id string) string {
	t.Helper()
	var res struct{ Records []struct{ Data []byte } }
	if err := l.api.call("RunService/ReadLog", map[string]any{"run": id, "step": "s"}, &res); err != nil {
		t.Errorf("the log of run %s: %v", id, err)
	}
	var b strings.Builder
	for _, r := range res.Records {
		b.Write(append(r.Data, '\n'))
	}
	return b.String()
}

func (l *load) checkRun(t *testing.T, s submitted, r *runJSON) {
	t.Helper()
	want, state := "s=passed", "passed"
	if s.code != 0 {
		want, state = "s=failed(exit_code)", "failed"
	}
	if r.states() != want || r.State != state {
		t.Errorf("run %s is %s: %s, want %s; attempts %+v", r.ID, r.State, r.states(), want, r.Steps[0].Attempts)
		return
	}
	last := r.Steps[0].last(t)
	if last.ExitCode == nil || *last.ExitCode != s.code {
		t.Errorf("run %s shows exit code %v, want %d", r.ID, last.ExitCode, s.code)
	}
	if got := l.log(t, r.ID); !strings.HasPrefix(got, "log of "+r.ID+"\n") || strings.Count(got, "log of") != 1 {
		t.Errorf("run %s has the log %q", r.ID, got)
	}
	marks, err := os.ReadFile(l.marks + "/" + r.ID)
	if err != nil {
		t.Errorf("run %s never ran: %v", r.ID, err)
	}
	for _, a := range r.Steps[0].Attempts {
		if n := strings.Count(string(marks), fmt.Sprintf("%d\n", a.Number)); n > 1 || n == 0 && a.State == "succeeded" {
			t.Errorf("attempt %d of run %s (%s) ran %d times", a.Number, r.ID, a.State, n)
		}
	}
}

// TestE2EKeys: the same key is the same run, whoever repeats it and when.
func TestE2EKeys(t *testing.T) {
	t.Parallel()
	f := startFleet(t, noDocker())
	file := f.workflow(head + "steps:\n- { id: a, run: exit 0 }\n")
	runs := make([]string, 5)
	var all errgroup.Group
	for i := range runs {
		all.Go(func() error {
			res := f.finish(f.command("run", "-f", file, "--idempotency-key", "deploy-1", "-o", "name"))
			runs[i] = strings.TrimSpace(res.stdout)
			if res.code != 0 {
				return fmt.Errorf("%s", res)
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, id := range runs {
		if id == "" || id != runs[0] {
			t.Errorf("five parallel submits with one key gave the runs %v", runs)
		}
	}
	f.wait(runs[0])
	f.kill()
	f.restart()
	if got := strings.TrimSpace(f.must("run", "-f", file, "--idempotency-key", "deploy-1", "-o", "name").stdout); got != runs[0] {
		t.Errorf("after kill -9 the key gives run %s, it gave %s", got, runs[0])
	}
	if got := strings.TrimSpace(f.must("run", "-f", file, "--idempotency-key", "deploy-2", "-o", "name").stdout); got == runs[0] {
		t.Error("another key gives the same run")
	}
	if n := len(f.audit("--run", runs[0])); n != 1 {
		t.Errorf("the audit has %d entries of the one run, want 1", n)
	}
}
