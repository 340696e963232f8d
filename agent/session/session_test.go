package session

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/logpath"
	"github.com/slipway-ci/slipway/shared/wire"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

func TestLife(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	c := b.coordinator()
	w := &work{news: make(chan struct{}, 1), seen: Index{1, 4}, progress: []wire.Progress{{Attempt: "a1", Fence: 7, State: ci.AttemptRunning, Progress: 0.5}}}
	s := b.session(w, c)

	reg := <-c.registers
	if reg.GetName() != "host-1" || reg.GetBootId() != "boot" || reg.GetCluster() != b.authority.Cluster() || reg.GetSlots() != 4 {
		t.Errorf("registration %v", reg)
	}
	if got := <-c.opens; got.GetIncarnation() != 1 || got.GetSeen().GetApplied() != 4 {
		t.Errorf("stream opened with %v", got)
	}
	a := wire.Assignment{Attempt: "a1", Fence: 7, Step: ci.Step{ID: "unit", Run: "make"}, Source: ci.Source{SHA: "abc"}, LogPath: "s3://b/c/x", Want: ci.WantRun}
	m, err := wire.AssignmentMessage(&a)
	if err != nil {
		t.Fatal(err)
	}
	c.send <- &pb.AssignmentsResponse{Index: &pb.SetIndex{Epoch: 1, Applied: 5}, Full: true, Assignments: []*pb.Assignment{m, {Attempt: "unreadable", Want: "fly"}}}
	c.send <- &pb.AssignmentsResponse{Index: &pb.SetIndex{Epoch: 1, Applied: 6}, Removed: []string{"a0"}}
	b.eventually("both sets are taken", func() bool { return len(w.sets()) == 2 })
	want := []set{{at: Index{1, 5}, full: true, assigned: []ci.AttemptID{"a1"}}, {at: Index{1, 6}, removed: []ci.AttemptID{"a0"}}}
	if diff := cmp.Diff(want, w.sets(), cmp.AllowUnexported(set{})); diff != "" {
		t.Error(diff)
	}
	if hb := <-c.beats; hb.GetIncarnation() != 1 || len(hb.GetAttempts()) != 1 || hb.GetAttempts()[0].GetState() != "running" || hb.GetDiskFree() != 0.25 {
		t.Errorf("heartbeat %v", hb)
	}
	b.eventually("the heartbeat is acknowledged", func() bool { return !s.LastAck().IsZero() })
	run, wanted, err := s.Accept(t.Context(), "a1", 7)
	if err != nil || !run || wanted != ci.WantRun {
		t.Errorf("accept: %v %v %v", run, wanted, err)
	}
	accepted, err := s.Report(t.Context(), wire.Report{Attempt: "a1", Fence: 7, Phase: wire.PhaseFinal, Outcome: ci.AttemptSucceeded})
	if err != nil || !accepted {
		t.Errorf("report: %v %v", accepted, err)
	}
	if s.Root() != "s3://b/c" {
		t.Errorf("root %s", s.Root())
	}
}

func TestNewsDoNotWait(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	c := b.coordinator()
	c.heartbeat = 1000 * time.Hour
	w := &work{news: make(chan struct{}, 1)}
	b.session(w, c)
	<-c.beats
	w.news <- struct{}{}
	select {
	case <-c.beats:
	case <-time.After(patience):
		t.Error("news wait for the next heartbeat")
	}
}

func TestTails(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	c := b.coordinator()
	b.session(&work{}, c)
	<-c.opens
	c.send <- &pb.AssignmentsResponse{Tails: []*pb.TailOrder{
		{Id: "t1", Attempt: "a1", From: 3, Limit: 10, WaitSeconds: 1}, {Id: "t2", Attempt: "gone"},
	}}
	got := map[string]*pb.TailRequest{}
	for range 2 {
		m := <-c.tails
		got[m.GetId()] = m
	}
	r := got["t1"].GetRecords()
	if len(r) != 1 || string(r[0].GetData()) != "a1 from 3 at most 10 within 1s\xff" || r[0].GetStream() != "stderr" || got["t1"].GetNext() != 4 || !got["t1"].GetEnd() {
		t.Errorf("answer %v", got["t1"])
	}
	if !strings.Contains(got["t2"].GetProblem(), "no log") {
		t.Errorf("answer %v", got["t2"])
	}
}

// When a coordinator goes, the session goes to another with the session that it
// has, and calls that wait get through.
func TestMovesOn(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	first, second := b.coordinator(), b.coordinator()
	s := b.session(&work{}, first)
	<-first.opens
	b.addrs.Store([]string{second.addr})
	first.stop()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		run, _, err := s.Accept(ctx, "a1", 7)
		if err == nil && run {
			break
		}
		if ci.KindOf(err) == ci.Conflict || ctx.Err() != nil {
			t.Fatalf("accept: %v %v", run, err)
		}
	}
	if open := <-second.opens; open.GetIncarnation() != 1 {
		t.Errorf("it moves with session %d", open.GetIncarnation())
	}
	if len(second.registers) != 0 {
		t.Error("it registers again for nothing")
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	s := b.session(&work{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := s.Accept(ctx, "a1", 7); ci.KindOf(err) != ci.Unavailable {
		t.Errorf("accept: %v", err)
	}
	c := b.coordinator()
	b.addrs.Store([]string{c.addr})
	if err := s.Connected(t.Context()); err != nil {
		t.Error(err)
	}
}

// A session that another registration has replaced says nothing of attempts:
// the agent registers again and asks once more.
func TestSessionReplaced(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	c := b.coordinator()
	s := b.session(&work{}, c)
	<-c.registers
	<-c.opens
	c.mu.Lock()
	c.incarnation = 5
	c.mu.Unlock()
	_, _, err := s.Accept(t.Context(), "a1", 7)
	if ci.KindOf(err) != ci.Unavailable {
		t.Errorf("accept in a session that is over: %v", err)
	}
	<-c.registers
	if open := <-c.opens; open.GetIncarnation() != 6 {
		t.Errorf("it comes back with session %d", open.GetIncarnation())
	}
}

// Two agents with one identity do not fight for ever.
func TestDouble(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	c := b.coordinator()
	c.thief = true
	b.session(&work{}, c)
	select {
	case err := <-b.ended:
		if !errors.Is(err, errDouble) {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(patience):
		t.Error("it registers again and again")
	}
}

// A coordinator with another authority's certificate is not spoken to.
func TestStrangersAreRefused(t *testing.T) {
	t.Parallel()
	b, other := newBed(t), newBed(t)
	c := other.coordinator()
	s := b.session(&work{}, c)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := s.Connected(ctx); err == nil || len(c.registers) != 0 {
		t.Errorf("connected to a stranger: %v", err)
	}
}

func TestRecordsSurvive(t *testing.T) {
	t.Parallel()
	at := time.Unix(5, 6)
	got := messages([]logpath.Record{{Time: at, Stream: logpath.System, Data: []byte{0}, Partial: true}})
	if len(got) != 1 || !got[0].GetAt().AsTime().Equal(at) || got[0].GetStream() != "system" || !got[0].GetPartial() {
		t.Errorf("%v", got)
	}
}
