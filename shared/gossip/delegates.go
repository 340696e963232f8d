package gossip

import (
	"bytes"
	"encoding/json"
	"log/slog"

	"github.com/hashicorp/memberlist"
)

// metadata is the delegate that hands out this node's metadata and takes part
// in nothing else: user messages reach only some nodes, so none are sent.
type metadata []byte

func (m metadata) NodeMeta(int) []byte             { return m }
func (metadata) NotifyMsg([]byte)                  {}
func (metadata) GetBroadcasts(int, int) [][]byte   { return nil }
func (metadata) LocalState(bool) []byte            { return nil }
func (metadata) MergeRemoteState(_ []byte, _ bool) {}

// events keeps our own map of members: memberlist changes its nodes under its
// own lock, so they are copied here, where it calls with that lock held. For the
// same reason nothing here may call back into memberlist.
type events struct{ g *Gossip }

func (e events) NotifyJoin(n *memberlist.Node)   { e.set(n) }
func (e events) NotifyUpdate(n *memberlist.Node) { e.set(n) }

func (e events) set(n *memberlist.Node) {
	m := Member{Name: n.Name, Addr: n.Address()}
	if err := json.Unmarshal(n.Meta, &m.Meta); err != nil {
		m.Meta = Meta{}
		e.g.cfg.Log.Warn("gossip: cannot read the metadata of a member", "member", n.Name, "addr", m.Addr, "err", err)
	}
	e.g.change(func() { e.g.members[m.Name] = m })
}

func (e events) NotifyLeave(n *memberlist.Node) {
	name := n.Name
	e.g.change(func() { delete(e.g.members, name) })
}

func (e events) NotifyConflict(existing, other *memberlist.Node) {
	c := Conflict{Name: existing.Name, Kept: existing.Address(), Rejected: other.Address()}
	e.g.cfg.Log.Warn("gossip: two nodes use one name", "name", c.Name, "kept", c.Kept, "rejected", c.Rejected)
	if e.g.cfg.OnConflict != nil {
		e.g.cfg.OnConflict(c)
	}
}

func (g *Gossip) change(edit func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	edit()
	close(g.changed)
	g.changed = make(chan struct{})
}

// debugLines sends memberlist's log lines to slog, all at debug: it warns of
// things that are ordinary here, like a seed that is not up yet.
type debugLines struct{ log *slog.Logger }

func (d debugLines) Write(line []byte) (int, error) {
	d.log.Debug("gossip", "line", string(bytes.TrimSpace(line)))
	return len(line), nil
}
