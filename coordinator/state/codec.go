package state

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/slipway-ci/slipway/shared/ci"
)

// codecCBOR is the first byte of an entry in CBOR. Another encoding gets
// another byte; this one must stay readable for ever.
const codecCBOR = 1

// maxCommands bounds the commands of one entry, so that a command's place fits
// beside the index in an audit key.
const maxCommands = 1 << 16

var (
	encMode = mustEnc()
	decMode = mustDec()
)

func mustEnc() cbor.EncMode {
	o := cbor.CoreDetEncOptions()
	o.Time = cbor.TimeRFC3339NanoUTC
	m, err := o.EncMode()
	if err != nil {
		panic(err)
	}
	return m
}

func mustDec() cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF,
		// An unknown field is a newer version's meaning: going on without it
		// would fork the state.
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxArrayElements:  1 << 20,
		MaxMapPairs:       1 << 20,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}

type wireEntry struct {
	Stamp    Stamp
	Commands []wireCommand
}

type wireCommand struct {
	Key   string `cbor:",omitempty"`
	Actor ci.Actor
	Op    string
	Data  cbor.RawMessage
}

// EncodeEntry renders an entry for the log. The same entry always gives the
// same bytes.
func EncodeEntry(e Entry) ([]byte, error) {
	if len(e.Commands) > maxCommands {
		return nil, fmt.Errorf("cannot encode an entry of %d commands, the most is %d", len(e.Commands), maxCommands)
	}
	w := wireEntry{Stamp: e.Stamp, Commands: make([]wireCommand, len(e.Commands))}
	for i, c := range e.Commands {
		if c.Op == nil {
			return nil, fmt.Errorf("cannot encode command %d: it has no op", i)
		}
		data, err := encMode.Marshal(c.Op)
		if err != nil {
			return nil, fmt.Errorf("cannot encode op %s: %w", c.Op.Name(), err)
		}
		w.Commands[i] = wireCommand{Key: c.Key, Actor: c.Actor, Op: c.Op.Name(), Data: data}
	}
	body, err := encMode.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("cannot encode entry: %w", err)
	}
	return append([]byte{codecCBOR}, body...), nil
}

// DecodeEntry reads what EncodeEntry wrote. An unknown codec, op or field is
// an error, after which a node must not go on.
func DecodeEntry(data []byte) (Entry, error) {
	if len(data) == 0 || data[0] != codecCBOR {
		return Entry{}, fmt.Errorf("cannot decode entry: it does not begin with a codec that this version knows")
	}
	var w wireEntry
	if err := decMode.Unmarshal(data[1:], &w); err != nil {
		return Entry{}, fmt.Errorf("cannot decode entry: %w", err)
	}
	if len(w.Commands) > maxCommands {
		return Entry{}, fmt.Errorf("cannot decode an entry of %d commands, the most is %d", len(w.Commands), maxCommands)
	}
	e := Entry{Stamp: w.Stamp, Commands: make([]Command, len(w.Commands))}
	for i, c := range w.Commands {
		op := newOp(c.Op)
		if op == nil {
			return Entry{}, fmt.Errorf("cannot decode entry: this version does not know the op %q", c.Op)
		}
		if err := decMode.Unmarshal(c.Data, op); err != nil {
			return Entry{}, fmt.Errorf("cannot decode op %s: %w", c.Op, err)
		}
		e.Commands[i] = Command{Key: c.Key, Actor: c.Actor, Op: op}
	}
	return e, nil
}
