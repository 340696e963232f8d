package state

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"
	"github.com/klauspost/compress/zstd"

	"github.com/slipway-ci/slipway/shared/ci"
)

// A snapshot begins with these bytes, of which the last is the version of what
// follows: a zstd stream of CBOR items, the last of them "end".
const (
	snapshotMagic   = "slipway-state"
	snapshotVersion = 1
)

// Snapshot is the state at one moment, ready to be written out. Taking it is
// O(1); it holds no lock.
type Snapshot struct{ v *View }

// Snapshot returns the state after the last entry applied.
func (s *Store) Snapshot() Snapshot { return Snapshot{v: s.View()} }

// Index returns the index of the last entry that the snapshot holds.
func (s Snapshot) Index() uint64 { return s.v.Index() }

// Persist writes the snapshot.
func (s Snapshot) Persist(w io.Writer) error {
	if _, err := w.Write(append([]byte(snapshotMagic), snapshotVersion)); err != nil {
		return fmt.Errorf("cannot write snapshot: %w", err)
	}
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return fmt.Errorf("cannot write snapshot: %w", err)
	}
	if err := s.v.write(z); err != nil {
		return errors.Join(fmt.Errorf("cannot write snapshot: %w", err), z.Close())
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("cannot write snapshot: %w", err)
	}
	return nil
}

// Hash returns the sha256 of the state, equal wherever the same log was
// applied.
func (s *Store) Hash() [32]byte { return s.View().Hash() }

// Hash returns the sha256 of the state as the view shows it.
func (v *View) Hash() [32]byte {
	h := sha256.New()
	if err := v.write(h); err != nil {
		panic(err) // what was decoded can be encoded
	}
	return [32]byte(h.Sum(nil))
}

// snapItem is one row of a snapshot.
type snapItem struct {
	Table string
	Row   cbor.RawMessage
}

type auditRow struct {
	Key   AuditKey
	Entry *ci.AuditEntry
}

// write writes the rows in a fixed order.
func (v *View) write(w io.Writer) error {
	b := bufio.NewWriter(w)
	enc := encMode.NewEncoder(b)
	var failed error
	put := func(table string, row any) bool {
		var raw []byte
		if raw, failed = encMode.Marshal(row); failed == nil {
			failed = enc.Encode(snapItem{table, raw})
		}
		return failed == nil
	}
	t := &v.t
	put("meta", t.meta)
	for _, each := range []func(){
		func() { t.tenants.scan(func(_ ci.TenantID, r *ci.Tenant) bool { return put("tenant", r) }) },
		func() { t.tokens.scan(func(_ ci.TokenID, r *ci.Token) bool { return put("token", r) }) },
		func() { t.agents.scan(func(_ ci.AgentID, r *ci.Agent) bool { return put("agent", r) }) },
		func() { t.workflows.scan(func(_ string, r *workflowRow) bool { return put("workflow", r) }) },
		func() { t.runs.scan(func(_ ci.RunID, r *ci.Run) bool { return put("run", r) }) },
		func() { t.keys.scan(func(_ keyID, r keyRow) bool { return put("key", r) }) },
		func() {
			t.audit.scan(func(k AuditKey, r *ci.AuditEntry) bool { return put("audit", auditRow{k, r}) })
		},
		func() { put("end", nil) },
	} {
		if failed != nil {
			return failed
		}
		each()
	}
	if failed != nil {
		return failed
	}
	return b.Flush()
}

// Restore replaces the whole state by a snapshot; on an error it is as it was.
// Watchers are told All.
func (s *Store) Restore(r io.Reader) error {
	head := make([]byte, len(snapshotMagic)+1)
	if _, err := io.ReadFull(r, head); err != nil {
		return fmt.Errorf("cannot read snapshot: %w", err)
	}
	if string(head[:len(snapshotMagic)]) != snapshotMagic {
		return errors.New("cannot read snapshot: it does not begin like one")
	}
	if v := head[len(snapshotMagic)]; v != snapshotVersion {
		return fmt.Errorf("cannot read snapshot: it has version %d, this program knows %d", v, snapshotVersion)
	}
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return fmt.Errorf("cannot read snapshot: %w", err)
	}
	defer z.Close()
	t := newTables()
	if err := t.read(z); err != nil {
		return fmt.Errorf("cannot read snapshot: %w", err)
	}
	s.replace(t)
	all := newChangeSet()
	all.all = true
	s.tell(&all)
	return nil
}

func (t *tables) read(r io.Reader) error {
	dec := decMode.NewDecoder(r)
	for {
		var it snapItem
		if err := dec.Decode(&it); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		if it.Table == "end" {
			return nil
		}
		if err := t.readRow(it); err != nil {
			return fmt.Errorf("a row of %q: %w", it.Table, err)
		}
	}
}

func (t *tables) readRow(it snapItem) error {
	switch it.Table {
	case "meta":
		return decMode.Unmarshal(it.Row, &t.meta)
	case "tenant":
		return into(it.Row, func(r *ci.Tenant) { t.tenants.put(r.ID, r) })
	case "token":
		return into(it.Row, func(r *ci.Token) { t.tokens.put(r.ID, r) })
	case "agent":
		return into(it.Row, func(r *ci.Agent) { t.agents.put(r.ID, r) })
	case "workflow":
		return t.readWorkflow(it.Row)
	case "run":
		return t.readRun(it.Row)
	case "key":
		return into(it.Row, func(r *keyRow) { t.keys.put(keyID{r.Tenant, r.Key}, *r) })
	case "audit":
		return into(it.Row, func(r *auditRow) { t.audit.put(r.Key, r.Entry) })
	}
	return errors.New("this program does not know the table")
}

func into[T any](raw []byte, put func(*T)) error {
	r := new(T)
	if err := decMode.Unmarshal(raw, r); err != nil {
		return err
	}
	put(r)
	return nil
}

func (t *tables) readWorkflow(raw []byte) error {
	row := new(workflowRow)
	if err := decMode.Unmarshal(raw, row); err != nil {
		return err
	}
	if row.whole() {
		w, err := unpackWorkflow(row.Hash, row.Parts)
		if err != nil {
			return err
		}
		row.Workflow = w
	}
	t.workflows.put(row.Hash, row)
	return nil
}

func (t *tables) readRun(raw []byte) error {
	r := new(ci.Run)
	if err := decMode.Unmarshal(raw, r); err != nil {
		return err
	}
	w, ok := t.workflows.get(r.WorkflowHash)
	if !ok || w.Workflow == nil || len(w.Workflow.Steps) != len(r.Steps) {
		return fmt.Errorf("run %s: its workflow %s is not there or another", r.ID, r.WorkflowHash)
	}
	r.Workflow = w.Workflow
	t.runs.put(r.ID, r)
	t.sum(nil, r)
	return nil
}
