package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
)

// errTermOver is the cause with which a term's context ends.
var errTermOver = errors.New("this coordinator's term as leader is over")

// term is one stretch of leading, from the moment at which this node has
// applied all that earlier leaders committed.
//
//	raft elects -> barrier -> cluster id checked -> published: proposals, Lead
//	                                                    |
//	               withdrawn, queue refused <- raft lost it, or another term began
type term struct {
	number uint64 // raft's
	ctx    context.Context
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when the term's goroutine has returned

	base  ci.ClusterTime // of the state when the term began
	start time.Time      // with its monotonic reading
}

func (t *term) now() ci.ClusterTime { return t.base.Add(time.Since(t.start)) }

// terms publishes the current term.
type terms struct {
	mu      sync.Mutex
	current *term
	changed chan struct{} // closed at the next change
}

func newTerms() *terms { return &terms{changed: make(chan struct{})} }

func (t *terms) get() (current *term, changed <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.current, t.changed
}

func (t *terms) set(current *term) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current = current
	t.tellLocked()
}

// tell wakes everyone who waits for a change.
func (t *terms) tell() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tellLocked()
}

func (t *terms) tellLocked() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// lead runs fn once in each term, one after another.
func (t *terms) lead(ctx context.Context, log *slog.Logger, fn func(ctx context.Context) error) error {
	var last *term
	for ctx.Err() == nil {
		current, changed := t.get()
		if current == nil || current == last {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		last = current
		if err := during(ctx, current, log, fn); err != nil {
			return err
		}
	}
	return nil
}

func during(ctx context.Context, t *term, log *slog.Logger, fn func(ctx context.Context) error) error {
	own, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(t.ctx, func() { cancel(errTermOver) })
	defer stop()
	err := fn(own)
	switch {
	case err == nil || own.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, errTermOver)):
		return nil
	case ctx.Err() == nil && own.Err() != nil:
		// The term took its work down with it; the next one starts anew.
		log.Warn("the leader's work ended badly with its term", "term", t.number, "err", err)
		return nil
	default:
		return fmt.Errorf("the leader's work failed: %w", err)
	}
}

// Lead runs fn while this node leads: once per term, in a context that ends with
// the term, and waits for it to return before the next begins. When fn is called
// the node has applied everything that earlier leaders committed. If fn returns
// nil, Lead waits for the next term; if it fails while its term goes on, Lead
// returns that error, for a leader whose work does not run must not stay one.
// Lead returns nil when ctx ends.
func (n *Node) Lead(ctx context.Context, fn func(ctx context.Context) error) error {
	return n.terms.lead(ctx, n.cfg.Log, fn)
}

// watchTerms begins and ends this node's terms.
//
// The trap: LeaderCh holds only its last value, so that a leadership lost and
// won again arrives as a single true. Its values are therefore not believed:
// each one only wakes, and raft's state and term number decide.
func (n *Node) watchTerms(ctx context.Context) {
	var current *term
	end := func() {
		if current != nil {
			current.cancel(errTermOver)
			<-current.done
			current = nil
		}
	}
	defer end()
	for {
		number, leads := n.leads()
		if current != nil && (!leads || number != current.number) {
			end()
			continue // much may have happened while waiting for the old term
		}
		if leads && current == nil {
			current = n.beginTerm(ctx, number)
		}
		select {
		case <-n.raft.LeaderCh():
		case <-n.observed:
		case <-ctx.Done():
			return
		}
		n.terms.tell() // whoever waits for any leader looks again
	}
}

// leads returns the term in which this node leads. Raft publishes state and
// term apart; a term that changes in between is followed by a notification.
func (n *Node) leads() (number uint64, ok bool) {
	number = n.raft.CurrentTerm()
	return number, n.isRaftLeader() && number == n.raft.CurrentTerm()
}

func (n *Node) beginTerm(ctx context.Context, number uint64) *term {
	t := &term{number: number, done: make(chan struct{})}
	t.ctx, t.cancel = context.WithCancelCause(ctx)
	started := n.tasks.Go("term", func(context.Context) {
		defer close(t.done)
		n.serveTerm(t)
	})
	if !started {
		close(t.done)
	}
	return t
}

// serveTerm is a term's whole life.
func (n *Node) serveTerm(t *term) {
	defer t.cancel(errTermOver)
	if !n.barrier(t) {
		return
	}
	t.base, t.start = n.cfg.Store.View().Stamp().Cluster, time.Now()
	if err := n.initCluster(t); err != nil {
		if ci.KindOf(err) != ci.Unavailable {
			n.fail(err)
		}
		return
	}
	n.cfg.Log.Info("leading", "node", n.cfg.ID, "term", t.number)
	n.queue.start()
	n.terms.set(t)
	n.drain(t)
	n.terms.set(nil)
	t.cancel(errTermOver)
	for _, w := range n.queue.stop() {
		w.done <- outcome{err: n.notLeading()}
	}
	n.cfg.Log.Info("no longer leading", "node", n.cfg.ID, "term", t.number)
}

// drain commits one batch after another until the term is over. What arrives
// while an entry is in flight makes the next one, so there is no timer; only an
// idle leader commits an empty entry now and then, so that cluster time goes on.
func (n *Node) drain(t *term) {
	idle := time.NewTimer(n.cfg.tick)
	defer idle.Stop()
	for {
		var batch []*waiting
		select {
		case <-t.ctx.Done():
			return
		case <-n.queue.wake:
			if batch = n.queue.take(); len(batch) == 0 {
				continue
			}
		case <-idle.C:
		}
		if err := n.commit(t, batch); err != nil {
			n.cfg.Log.Debug("an entry was not committed", "term", t.number, "commands", len(batch), "err", err)
		}
		idle.Reset(n.cfg.tick)
	}
}

const barrierRetry = 500 * time.Millisecond

// barrier returns true once this node has applied everything committed before
// its term. While raft still calls it leader a failure is tried again: no
// further notification would come to do that.
func (n *Node) barrier(t *term) bool {
	for t.ctx.Err() == nil {
		err := n.raft.Barrier(0).Error()
		if err == nil {
			return true
		}
		n.cfg.Log.Info("leader: the barrier at the start of the term failed", "term", t.number, "err", err)
		if number, ok := n.leads(); !ok || number != t.number {
			return false
		}
		timer := time.NewTimer(barrierRetry)
		select {
		case <-timer.C:
		case <-t.ctx.Done():
			timer.Stop()
		}
	}
	return false
}
