package state

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/slipway-ci/slipway/shared/ci"
)

// The bounds of a packed workflow.
const (
	maxPart     = 128 << 10 // bytes of a part
	maxParts    = 64
	maxWorkflow = 32 << 20 // bytes of a workflow before packing
)

// workflowRow is a workflow of the table, perhaps with parts still missing.
type workflowRow struct {
	Hash     string
	Parts    [][]byte
	At       ci.ClusterTime // of the last part, or of the last run that let go
	Runs     int            // how many runs use it
	Workflow *ci.Workflow   `cbor:"-"` // nil until all parts are there
}

// PackWorkflow renders a workflow for the log: its hash, which CreateRun then
// carries, and parts to propose before that in any order.
func PackWorkflow(w *ci.Workflow) (hash string, parts []PutWorkflow, err error) {
	plain, err := encMode.Marshal(w)
	if err != nil {
		return "", nil, fmt.Errorf("cannot encode workflow %s: %w", w.Name, err)
	}
	if len(plain) > maxWorkflow {
		return "", nil, ci.Errorf(ci.Invalid, "cannot store workflow %s: it has %d bytes, the most is %d", w.Name, len(plain), maxWorkflow)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return "", nil, fmt.Errorf("cannot pack workflow %s: %w", w.Name, err)
	}
	packed := enc.EncodeAll(plain, nil)
	sum := sha256.Sum256(plain)
	hash = hex.EncodeToString(sum[:])
	n := (len(packed) + maxPart - 1) / maxPart
	if n > maxParts {
		return "", nil, ci.Errorf(ci.Invalid, "cannot store workflow %s: it takes %d bytes packed, the most is %d", w.Name, len(packed), maxParts*maxPart)
	}
	for i := range n {
		data := packed[i*maxPart : min((i+1)*maxPart, len(packed))]
		parts = append(parts, PutWorkflow{Hash: hash, Part: i, Parts: n, Data: data})
	}
	return hash, parts, nil
}

// unpackWorkflow is the inverse of PackWorkflow.
func unpackWorkflow(hash string, parts [][]byte) (*ci.Workflow, error) {
	var packed []byte
	for _, p := range parts {
		packed = append(packed, p...)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxWorkflow))
	if err != nil {
		return nil, fmt.Errorf("cannot unpack workflow %s: %w", hash, err)
	}
	defer dec.Close()
	plain, err := dec.DecodeAll(packed, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot unpack workflow %s: %w", hash, err)
	}
	sum := sha256.Sum256(plain)
	if hex.EncodeToString(sum[:]) != hash {
		return nil, fmt.Errorf("cannot unpack workflow %s: its content has another hash", hash)
	}
	w := new(ci.Workflow)
	if err := decMode.Unmarshal(plain, w); err != nil {
		return nil, fmt.Errorf("cannot decode workflow %s: %w", hash, err)
	}
	return w, nil
}

func (o *PutWorkflow) apply(x *tx) error {
	if err := checkID("workflow", o.Hash); err != nil {
		return err
	}
	if o.Parts < 1 || o.Parts > maxParts || o.Part < 0 || o.Part >= o.Parts || len(o.Data) > maxPart {
		return ci.Errorf(ci.Invalid, "cannot store part %d of %d with %d bytes of workflow %s", o.Part, o.Parts, len(o.Data), o.Hash)
	}
	row := workflowRow{Hash: o.Hash, Parts: make([][]byte, o.Parts)}
	if old, ok := x.t.workflows.get(o.Hash); ok {
		if old.Workflow != nil || len(old.Parts) == o.Parts {
			row = *old
		}
	}
	row.At = x.stamp.Cluster
	if row.Workflow == nil {
		row.Parts = append([][]byte(nil), row.Parts...)
		row.Parts[o.Part] = o.Data
		if row.whole() {
			w, err := unpackWorkflow(o.Hash, row.Parts)
			if err == nil {
				err = checkWorkflow(w)
			}
			if err != nil {
				return ci.Errorf(ci.Invalid, "%w", err)
			}
			row.Workflow = w
		}
	}
	x.t.workflows.put(o.Hash, &row)
	return nil
}

func (w *workflowRow) whole() bool {
	for _, p := range w.Parts {
		if p == nil {
			return false
		}
	}
	return true
}

// checkWorkflow refuses what the state itself could not bear. All else is the
// parser's business.
func checkWorkflow(w *ci.Workflow) error {
	if len(w.Steps) == 0 {
		return fmt.Errorf("workflow %s has no steps", w.Name)
	}
	place := make(map[string]int, len(w.Steps))
	for i := range w.Steps {
		id := w.Steps[i].ID
		if err := checkID("step", id); err != nil {
			return err
		}
		if _, twice := place[id]; twice {
			return fmt.Errorf("workflow %s has two steps %s", w.Name, id)
		}
		place[id] = i
	}
	for i := range w.Steps {
		for _, n := range w.Steps[i].Needs {
			j, ok := place[n]
			if !ok {
				return fmt.Errorf("step %s needs %s, which is not there", w.Steps[i].ID, n)
			}
			if w.Steps[j].Finally && !w.Steps[i].Finally {
				return fmt.Errorf("step %s needs %s, which only runs at the end", w.Steps[i].ID, n)
			}
		}
	}
	return cycle(w, place)
}

// cycle refuses steps that wait for each other: their run would never end.
func cycle(w *ci.Workflow, place map[string]int) error {
	left := make([]int, len(w.Steps)) // needs not done yet
	follow := make([][]int, len(w.Steps))
	var ready []int
	for i := range w.Steps {
		left[i] = len(w.Steps[i].Needs)
		for _, n := range w.Steps[i].Needs {
			follow[place[n]] = append(follow[place[n]], i)
		}
		if left[i] == 0 {
			ready = append(ready, i)
		}
	}
	done := 0
	for ; len(ready) > 0; done++ {
		i := ready[len(ready)-1]
		ready = ready[:len(ready)-1]
		for _, j := range follow[i] {
			if left[j]--; left[j] == 0 {
				ready = append(ready, j)
			}
		}
	}
	if done < len(w.Steps) {
		return fmt.Errorf("workflow %s has steps that need each other", w.Name)
	}
	return nil
}

// useWorkflow counts one run more, or less, for a workflow.
func (t *tables) useWorkflow(hash string, n int, now ci.ClusterTime) {
	old, ok := t.workflows.get(hash)
	if !ok {
		panic("no workflow " + hash) // the caller has looked
	}
	row := *old
	row.Runs += n
	row.At = now
	t.workflows.put(hash, &row)
}
