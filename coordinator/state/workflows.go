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
