package consensus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"
	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
)

// Propose puts a command through the log and returns once this node has applied
// it: index is its entry's, err what the state said of it. ci.Unavailable means
// that this node does not lead, or, where the text says that the outcome is
// unknown, that the change may have been made: repeating it with the same key
// is safe. A command above MaxBatch is ci.Invalid.
func (n *Node) Propose(ctx context.Context, c state.Command) (index uint64, err error) {
	w, err := n.send(ctx, c)
	if err != nil {
		return 0, err
	}
	return n.await(ctx, w)
}

// ProposeAll is Propose for commands that others must see in this order: they
// travel together, and one that is not taken takes those behind it along. It
// returns the error of each.
func (n *Node) ProposeAll(ctx context.Context, cmds []state.Command) []error {
	errs := make([]error, len(cmds))
	sent := make([]*waiting, 0, len(cmds))
	var refused error
	for i, c := range cmds {
		if refused == nil {
			var w *waiting
			if w, refused = n.send(ctx, c); refused == nil {
				sent = append(sent, w)
				continue
			}
		}
		errs[i] = refused
	}
	// From the back: what is taken out again when ctx ends must not leave those
	// behind it in.
	for i, w := range slices.Backward(sent) {
		_, errs[i] = n.await(ctx, w)
	}
	return errs
}

// send gives a command its place in the queue.
func (n *Node) send(ctx context.Context, c state.Command) (*waiting, error) {
	size, err := encodedSize(c)
	if err != nil {
		return nil, err
	}
	w := &waiting{cmd: c, size: size, done: make(chan outcome, 1)}
	return w, n.enter(ctx, w)
}

// Verify returns nil if this node still led after the call began: it waits for
// an entry that was appended since then and that a quorum holds. Raft's own
// VerifyLeader can be satisfied by answers to heartbeats of before the call.
// When it returns, everything acknowledged before the call is applied here.
func (n *Node) Verify(ctx context.Context) error {
	w := &waiting{verify: true, done: make(chan outcome, 1)}
	err := n.enter(ctx, w)
	if err == nil {
		_, err = n.await(ctx, w)
	}
	return err
}

func encodedSize(c state.Command) (int, error) {
	data, err := state.EncodeEntry(state.Entry{Stamp: state.Stamp{Wall: time.Now().UTC()}, Commands: []state.Command{c}})
	if err != nil {
		return 0, ci.Errorf(ci.Internal, "cannot propose a change: %w", err)
	}
	if len(data) > MaxBatch {
		return 0, ci.Errorf(ci.Invalid, "cannot propose %s: it has %d bytes, more than %d; keep large content in the object store", c.Op.Name(), len(data), MaxBatch)
	}
	return len(data), nil
}

// enter puts w into the queue.
func (n *Node) enter(ctx context.Context, w *waiting) error {
	if err := ctx.Err(); err != nil {
		return gaveUp(ctx, "nothing was changed")
	}
	open, err := n.queue.push(w)
	if err == nil && !open {
		return n.notLeading()
	}
	return err
}

// await waits for what becomes of w.
func (n *Node) await(ctx context.Context, w *waiting) (uint64, error) {
	select {
	case out := <-w.done:
		return out.index, out.err
	case <-ctx.Done():
		if n.queue.remove(w) {
			return 0, gaveUp(ctx, "nothing was changed")
		}
		return 0, gaveUp(ctx, unknownOutcome)
	}
}

const unknownOutcome = "outcome unknown: repeat with the same key"

func gaveUp(ctx context.Context, outcome string) error {
	kind := ci.Unavailable
	if errors.Is(ctx.Err(), context.Canceled) {
		kind = ci.Canceled
	}
	return ci.Errorf(kind, "gave up waiting for the log; %s: %w", outcome, context.Cause(ctx))
}

func (n *Node) notLeading() error {
	if addr, ok := n.Leader(); ok {
		return ci.Errorf(ci.Unavailable, "this coordinator does not lead (the leader is at %s); nothing was changed, try again", addr)
	}
	return ci.Errorf(ci.Unavailable, "the cluster has no leader at the moment; nothing was changed, try again")
}

// commit makes one entry of the batch, waits until it is applied, and answers
// everyone in it. It returns raft's error.
func (n *Node) commit(t *term, batch []*waiting) error {
	e := state.Entry{Stamp: n.stamp(t)}
	for _, w := range batch {
		if !w.verify {
			e.Commands = append(e.Commands, w.cmd)
		}
	}
	index, errs, err := n.append(e)
	i := 0
	for _, w := range batch {
		out := outcome{index: index, err: err}
		if err == nil && !w.verify {
			out.err = errs[i]
			i++
		}
		w.done <- out
	}
	return err
}

// append puts one entry through raft and returns what the state said of each of
// its commands.
func (n *Node) append(e state.Entry) (uint64, []error, error) {
	data, err := state.EncodeEntry(e)
	if err != nil {
		return 0, nil, ci.Errorf(ci.Internal, "cannot propose changes: %w", err)
	}
	if len(data) > MaxEntry {
		return 0, nil, ci.Errorf(ci.Internal, "cannot propose %d changes: their entry has %d bytes, more than %d", len(e.Commands), len(data), MaxEntry)
	}
	// Without a timeout: one could only end the wait for raft's own loop, and
	// would leave the outcome unknown.
	f := n.raft.Apply(data, 0)
	if err := f.Error(); err != nil {
		return 0, nil, n.raftFailed(err)
	}
	errs, ok := f.Response().([]error)
	if !ok || len(errs) != len(e.Commands) {
		panic(fmt.Sprintf("consensus: %d commands were answered with %v", len(e.Commands), f.Response()))
	}
	n.count(len(data), len(e.Commands))
	return f.Index(), errs, nil
}

func (n *Node) raftFailed(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return n.notLeading()
	default:
		return ci.Errorf(ci.Unavailable, "the change was on its way when this coordinator stopped leading; %s: %w", unknownOutcome, err)
	}
}

// stamp returns the time for the next entry. Cluster time goes on from where
// the last leader's stood, by this leader's monotonic clock.
func (n *Node) stamp(t *term) state.Stamp {
	return state.Stamp{
		Wall:    time.Now().UTC().Round(0),
		Cluster: max(t.now(), n.cfg.Store.View().Stamp().Cluster),
	}
}

func (n *Node) count(bytes, commands int) {
	n.entries.Add(1)
	n.commands.Add(uint64(commands))
	for {
		old := n.largest.Load()
		if uint64(bytes) <= old || n.largest.CompareAndSwap(old, uint64(bytes)) {
			return
		}
	}
}
