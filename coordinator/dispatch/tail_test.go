package dispatch

import (
	"context"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/logpath"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

type tailed struct {
	records []logpath.Record
	next    int64
	end     bool
	err     error
}

// tail asks in the background.
func (b *bed) tail(ctx context.Context, id ci.AttemptID) <-chan tailed {
	out := make(chan tailed, 1)
	tasks := lifecycle.NewTasks(context.Background())
	tasks.Go("tail", func(context.Context) {
		var got tailed
		got.records, got.next, got.end, got.err = b.service.Tail(ctx, id, 5, 10, time.Second)
		out <- got
	})
	b.t.Cleanup(func() { _ = tasks.Wait() })
	return out
}

func result(t *testing.T, c <-chan tailed) tailed {
	t.Helper()
	select {
	case got := <-c:
		return got
	case <-time.After(patience):
		t.Fatal("no answer")
		return tailed{}
	}
}

func TestTail(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	if got := result(t, b.tail(t.Context(), "nobody")); ci.KindOf(got.err) != ci.Unavailable {
		t.Errorf("no agent: %v", got.err)
	}
	a, other := b.registered("n1"), b.registered("n2")
	run, id := b.run()
	b.assign(run, id, "n1")
	stream := a.listen(nil)
	stream.next(t)

	answer := b.tail(t.Context(), id)
	order := stream.next(t).GetTails()[0]
	if order.GetAttempt() != string(id) || order.GetFrom() != 5 || order.GetLimit() != 10 || order.GetWaitSeconds() != 1 {
		t.Errorf("order: %v", order)
	}
	lie := &pb.TailRequest{Id: order.GetId(), Next: 99}
	if _, err := other.client.Tail(t.Context(), lie); err != nil {
		t.Fatal(err)
	}
	truth := &pb.TailRequest{Id: order.GetId(), Next: 7, End: true, Records: []*pb.LogRecord{
		{At: timestamppb.New(time.Unix(3, 0)), Stream: "stderr", Data: []byte("x"), Partial: true}, {Stream: "odd"},
	}}
	for range 2 { // the second finds nobody
		if _, err := a.client.Tail(t.Context(), truth); err != nil {
			t.Fatal(err)
		}
	}
	got := result(t, answer)
	if got.err != nil || got.next != 7 || !got.end || len(got.records) != 2 {
		t.Fatalf("got %+v", got)
	}
	if r := got.records[0]; r.Stream != logpath.Stderr || string(r.Data) != "x" || !r.Partial || r.Time.Unix() != 3 {
		t.Errorf("record: %+v", r)
	}
	if r := got.records[1]; r.Stream.String() != "stdout" {
		t.Errorf("record: %+v", r)
	}

	answer = b.tail(t.Context(), id)
	order = stream.next(t).GetTails()[0]
	if _, err := a.client.Tail(t.Context(), &pb.TailRequest{Id: order.GetId(), Problem: "disk gone"}); err != nil {
		t.Fatal(err)
	}
	if got := result(t, answer); ci.KindOf(got.err) != ci.Unavailable {
		t.Errorf("problem: %v", got.err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	answer = b.tail(ctx, id)
	stream.next(t)
	cancel()
	if got := result(t, answer); ci.KindOf(got.err) != ci.Canceled {
		t.Errorf("reader went away: %v", got.err)
	}

	answer = b.tail(t.Context(), id)
	stream.next(t)
	b.stop()
	if got := result(t, answer); ci.KindOf(got.err) != ci.Unavailable {
		t.Errorf("agent went away: %v", got.err)
	}
	if n := len(b.service.tails.pending); n != 0 {
		t.Errorf("%d requests are left", n)
	}
}
