package api

import (
	"bytes"
	"encoding/json"
	"fmt"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// jsonCodec is JSON for people with curl: fields are called what docs/api.md
// and the command line call them, and one that does not exist is an error, or a
// mistyped idempotency key would be none.
type jsonCodec struct{ name string }

// jsonCodecs take the place of the library's own, which has both names.
func jsonCodecs() []connect.HandlerOption {
	return []connect.HandlerOption{
		connect.WithCodec(jsonCodec{"json"}),
		connect.WithCodec(jsonCodec{"json; charset=utf-8"}),
	}
}

// Name implements connect.Codec.
func (c jsonCodec) Name() string { return c.name }

// Marshal implements connect.Codec.
func (jsonCodec) Marshal(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is no message", v)
	}
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	// The library adds spaces at random, to spite those who read it with sed.
	var out bytes.Buffer
	err = json.Compact(&out, text)
	out.WriteByte('\n') // for prompts, and tools that read lines
	return out.Bytes(), err
}

// Unmarshal implements connect.Codec.
func (jsonCodec) Unmarshal(data []byte, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is no message", v)
	}
	if len(data) == 0 {
		return fmt.Errorf("the body is empty: send {} at least")
	}
	return protojson.Unmarshal(data, m)
}
