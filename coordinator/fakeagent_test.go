package coordinator

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/slipway-ci/slipway/proto/slipway/v1/slipwayv1connect"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/logpath"
	"github.com/slipway-ci/slipway/shared/objectstore"
	"github.com/slipway-ci/slipway/shared/pki"
	"github.com/slipway-ci/slipway/shared/wire"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

// fakeAgent speaks the agents' protocol over mutual TLS and runs scripts with
// sh: enough of an agent to see a coordinator whole.
type fakeAgent struct {
	t      *testing.T
	tls    *pki.Source
	addr   func() string
	bucket *objectstore.S3
	tasks  *lifecycle.Tasks
	dir    string

	mu          sync.Mutex
	incarnation uint64
	jobs        map[ci.AttemptID]*job
}

type job struct {
	wire.Assignment
	cancel  context.CancelFunc
	want    ci.Want
	state   ci.AttemptState
	began   time.Time
	records []logpath.Record
	done    bool
	more    chan struct{} // closed at the next record
}

func (f *fakeAgent) client() (slipwayv1connect.AgentServiceClient, func()) {
	tr := &http.Transport{TLSClientConfig: f.tls.ClientConfig(pki.RoleCoordinator, "", pki.ProtoHTTP), ForceAttemptHTTP2: true}
	return slipwayv1connect.NewAgentServiceClient(&http.Client{Transport: tr}, "https://"+f.addr(),
		connect.WithInterceptors(wire.ClientErrors())), tr.CloseIdleConnections
}

// run connects again and again until ctx ends.
func (f *fakeAgent) run(ctx context.Context) {
	for ctx.Err() == nil {
		client, end := f.client()
		if err := f.session(ctx, client); err != nil && ctx.Err() == nil {
			f.t.Logf("agent: %v", err)
		}
		end()
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (f *fakeAgent) session(ctx context.Context, client slipwayv1connect.AgentServiceClient) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	res, err := client.Register(ctx, wire.RegisterRequest(f.tls.Identity().Cluster, &ci.Agent{
		Name: "builder", BootID: "b1", Slots: 8, Queues: []string{"default"}, Executors: []string{ci.ExecutorProcess},
		Capacity: ci.Resources{MilliCPU: 64_000, Memory: 64 << 30, Disk: 1 << 40, Pids: 10_000},
	}))
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.incarnation = res.GetIncarnation()
	f.mu.Unlock()
	beats := lifecycle.NewTasks(ctx)
	defer func() { _ = beats.Stop() }()
	beats.Go("beats", func(ctx context.Context) { f.beat(ctx, client) })
	stream, err := client.Assignments(ctx, &pb.AssignmentsRequest{Incarnation: res.GetIncarnation()})
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	for stream.Receive() {
		for _, m := range stream.Msg().GetAssignments() {
			a, err := wire.AssignmentFrom(m)
			if err != nil {
				return err
			}
			f.take(a)
		}
		for _, o := range stream.Msg().GetTails() {
			beats.Go("tail", func(ctx context.Context) { f.tail(ctx, client, o) })
		}
	}
	return stream.Err()
}

func (f *fakeAgent) beat(ctx context.Context, client slipwayv1connect.AgentServiceClient) {
	for ctx.Err() == nil {
		f.mu.Lock()
		req := &pb.HeartbeatRequest{Incarnation: f.incarnation}
		for _, j := range f.jobs {
			if j.state >= ci.AttemptPreparing && !j.done {
				req.Attempts = append(req.Attempts, wire.ProgressMessage(&wire.Progress{Attempt: j.Attempt, Fence: j.Fence, State: j.state, StartedAt: j.began}))
			}
		}
		f.mu.Unlock()
		if _, err := client.Heartbeat(ctx, req); err != nil && ctx.Err() == nil {
			f.t.Logf("agent: heartbeat: %v", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (f *fakeAgent) take(a *wire.Assignment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if j := f.jobs[a.Attempt]; j != nil {
		if j.want = a.Want; a.Want != ci.WantRun {
			j.cancel()
		}
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	j := &job{Assignment: *a, cancel: cancel, more: make(chan struct{})}
	f.jobs[a.Attempt] = j
	f.tasks.Go("job", func(stop context.Context) {
		defer context.AfterFunc(stop, cancel)()
		f.work(ctx, stop, j)
	})
}

// again repeats a call until it is answered.
func again[T any](stop context.Context, f *fakeAgent, call func(slipwayv1connect.AgentServiceClient, uint64) (T, error)) (out T) {
	for stop.Err() == nil {
		client, end := f.client()
		f.mu.Lock()
		n := f.incarnation
		f.mu.Unlock()
		got, err := call(client, n)
		end()
		if err == nil {
			return got
		}
		select {
		case <-stop.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return out
}

func (f *fakeAgent) work(ctx, stop context.Context, j *job) {
	res := again(stop, f, func(c slipwayv1connect.AgentServiceClient, n uint64) (*pb.AcceptResponse, error) {
		return c.Accept(stop, &pb.AcceptRequest{Incarnation: n, Attempt: string(j.Attempt), Fence: j.Fence})
	})
	if !res.GetRun() {
		return
	}
	f.mu.Lock()
	j.state, j.began = ci.AttemptRunning, time.Now()
	f.mu.Unlock()
	dir := filepath.Join(f.dir, string(j.Attempt))
	r := wire.Report{Attempt: j.Attempt, Fence: j.Fence, Phase: wire.PhaseExited, Exited: true, StartedAt: j.began}
	r.ExitCode = f.script(ctx, j, dir)
	r.FinishedAt = time.Now()
	f.mu.Lock()
	want := j.want
	f.mu.Unlock()
	switch {
	case want != ci.WantRun:
		r.Outcome, r.Reason = ci.AttemptCanceled, j.WantReason
	case r.ExitCode != 0:
		r.Outcome, r.Reason = ci.AttemptFailed, ci.ReasonExitCode
	default:
		r.Outcome = ci.AttemptSucceeded
	}
	f.report(stop, r)
	r.Log, r.Artifacts = f.ship(stop, j, dir)
	r.Phase = wire.PhaseFinal
	f.report(stop, r)
	f.mu.Lock()
	j.done = true
	f.mu.Unlock()
}

func (f *fakeAgent) report(stop context.Context, r wire.Report) {
	again(stop, f, func(c slipwayv1connect.AgentServiceClient, n uint64) (*pb.ReportResponse, error) {
		return c.Report(stop, wire.ReportMessage(n, &r))
	})
}

// script runs the step and returns its exit code.
func (f *fakeAgent) script(ctx context.Context, j *job, dir string) int {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		f.t.Error(err)
	}
	cmd := exec.CommandContext(ctx, "sh", "-e", "-c", j.Step.Run)
	cmd.Dir, cmd.Env, cmd.WaitDelay = dir, os.Environ(), time.Second
	for k, v := range j.Step.Env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	for k, v := range j.Params {
		cmd.Env = append(cmd.Env, ci.ParamEnv(k)+"="+v)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		f.t.Error(err)
		return 127
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		f.mu.Lock()
		j.records = append(j.records, logpath.Record{Time: time.Now(), Stream: logpath.Stdout, Data: bytes.Clone(lines.Bytes())})
		close(j.more)
		j.more = make(chan struct{})
		f.mu.Unlock()
	}
	_ = cmd.Wait() // the code says it
	return cmd.ProcessState.ExitCode()
}

// ship puts log, artifacts and status into the bucket.
func (f *fakeAgent) ship(ctx context.Context, j *job, dir string) (ci.LogManifest, []ci.Artifact) {
	path, err := logpath.Parse(j.LogPath)
	if err != nil {
		f.t.Error(err)
	}
	var text []byte
	var sum logpath.Sum
	for _, r := range j.records {
		text = logpath.AppendRecord(text, r)
		sum.Add(r)
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		f.t.Error(err)
	}
	f.put(ctx, path.Chunk(1), enc.EncodeAll(text, nil))
	f.putJSON(ctx, path.Index(), logpath.Index{Chunks: []logpath.Chunk{{N: 1, Lines: sum.Lines, Bytes: sum.Bytes}}, Lines: sum.Lines, Bytes: sum.Bytes, SHA256: sum.SHA256(), Complete: true})
	var kept []ci.Artifact
	for _, spec := range j.Step.Artifacts {
		for _, name := range spec.Paths {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				continue
			}
			hash := sha256.Sum256(data)
			f.put(ctx, path.Artifact(name), data)
			kept = append(kept, ci.Artifact{Path: name, Size: int64(len(data)), SHA256: hex.EncodeToString(hash[:])})
		}
	}
	f.putJSON(ctx, path.Status(), logpath.Status{Attempt: j.Attempt, Fence: j.Fence, State: "succeeded"})
	return sum.Manifest(1, false), kept
}

func (f *fakeAgent) putJSON(ctx context.Context, key string, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		f.t.Error(err)
	}
	f.put(ctx, key, data)
}

func (f *fakeAgent) put(ctx context.Context, key string, data []byte) {
	if _, err := f.bucket.Put(ctx, key, bytes.NewReader(data), int64(len(data)), objectstore.PutOptions{}); err != nil && ctx.Err() == nil {
		f.t.Errorf("put %s: %v", key, err)
	}
}

// tail answers one request for live records.
func (f *fakeAgent) tail(ctx context.Context, client slipwayv1connect.AgentServiceClient, o *pb.TailOrder) {
	answer := &pb.TailRequest{Id: o.GetId(), Attempt: o.GetAttempt(), Next: o.GetFrom()}
	late := time.After(time.Duration(o.GetWaitSeconds() * float64(time.Second)))
	for over := false; ; {
		f.mu.Lock()
		j := f.jobs[ci.AttemptID(o.GetAttempt())]
		if j == nil {
			f.mu.Unlock()
			answer.Problem = "no such attempt"
			break
		}
		for _, r := range j.records[min(o.GetFrom(), int64(len(j.records))):] {
			answer.Records = append(answer.Records, &pb.LogRecord{At: timestamppb.New(r.Time), Stream: r.Stream.String(), Data: r.Data})
			answer.Next++
		}
		answer.End = j.done
		more := j.more
		f.mu.Unlock()
		if len(answer.GetRecords()) > 0 || answer.GetEnd() || over || ctx.Err() != nil {
			break
		}
		select {
		case <-more:
		case <-late:
			over = true
		case <-time.After(100 * time.Millisecond): // done tells nobody
		case <-ctx.Done():
		}
	}
	_, _ = client.Tail(ctx, answer) // nobody may be left who wants it
}
