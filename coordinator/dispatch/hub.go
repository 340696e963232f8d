package dispatch

import (
	"sync"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

// hub knows the open streams, one for each agent. One watcher of the state
// serves all of them: a change costs what it touches, not what is connected.
type hub struct {
	mu      sync.Mutex
	streams map[ci.AgentID]*stream
	stopped bool
}

// stream is an agent's open stream of assignments.
type stream struct {
	agent ci.AgentID
	woken chan struct{} // holds a value when there may be something to send
	over  chan struct{} // closed when another stream has replaced this one, or the hub stops
	once  sync.Once

	mu    sync.Mutex
	holds map[ci.AttemptID]held // what the agent was told to run
	tails []*pb.TailOrder       // to send
}

func newHub() *hub { return &hub{streams: map[ci.AgentID]*stream{}} }

// open enters a stream and ends the one that the agent had before.
func (h *hub) open(id ci.AgentID) (*stream, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped {
		return nil, ci.Errorf(ci.Unavailable, "this coordinator is stopping")
	}
	if old := h.streams[id]; old != nil {
		old.end()
	}
	st := &stream{agent: id, woken: make(chan struct{}, 1), over: make(chan struct{}), holds: map[ci.AttemptID]held{}}
	h.streams[id] = st
	return st, nil
}

// close takes a stream out again, unless another has its place already.
func (h *hub) close(st *stream) {
	st.end()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams[st.agent] == st {
		delete(h.streams, st.agent)
	}
}

func (h *hub) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopped = true
	for _, st := range h.streams {
		st.end()
	}
}

func (h *hub) wake(c state.Changes) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c.All {
		for _, st := range h.streams {
			st.wake()
		}
		return
	}
	for _, id := range c.Agents {
		if st := h.streams[id]; st != nil {
			st.wake()
		}
	}
}

// of returns the stream of the agent that was told to run the attempt.
func (h *hub) of(a ci.AttemptID) *stream {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, st := range h.streams {
		if st.has(a) {
			return st
		}
	}
	return nil
}

func (st *stream) wake() {
	select {
	case st.woken <- struct{}{}:
	default:
	}
}

func (st *stream) end() { st.once.Do(func() { close(st.over) }) }

func (st *stream) has(a ci.AttemptID) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	_, ok := st.holds[a]
	return ok
}

// order hands a request for log records to the stream.
func (st *stream) order(o *pb.TailOrder) {
	st.mu.Lock()
	st.tails = append(st.tails, o)
	st.mu.Unlock()
	st.wake()
}

func (st *stream) takeOrders() []*pb.TailOrder {
	st.mu.Lock()
	defer st.mu.Unlock()
	out := st.tails
	st.tails = nil
	return out
}
