package logpath

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
)

// Chunk says which part of a log one chunk object holds. Lines are records and
// so what a log's cursor counts; bytes are the text that Record.AppendText
// gives, system records left out.
type Chunk struct {
	N     int       `json:"n"`    // number in the object's name
	Line  int64     `json:"line"` // records before this chunk
	Lines int64     `json:"lines"`
	Byte  int64     `json:"byte"` // text bytes before this chunk
	Bytes int64     `json:"bytes"`
	Time  time.Time `json:"time"` // of the first record
}

// Index is log/index.json. Until it is Complete more chunks may follow.
type Index struct {
	Chunks    []Chunk `json:"chunks"`
	Lines     int64   `json:"lines"`
	Bytes     int64   `json:"bytes"`
	SHA256    string  `json:"sha256,omitempty"` // of the whole text, once complete
	Complete  bool    `json:"complete"`
	Truncated bool    `json:"truncated,omitempty"`
}

// Find returns the place in Chunks of the chunk that holds record line, or
// len(Chunks) when none does yet.
func (x *Index) Find(line int64) int {
	lo, hi := 0, len(x.Chunks)
	for lo < hi {
		mid := (lo + hi) / 2
		if c := x.Chunks[mid]; line >= c.Line+c.Lines {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// Sum counts a log and hashes its text as it grows: what its manifest says.
type Sum struct {
	Lines, Bytes int64
	hash         hash.Hash
	text         []byte
}

// Add counts a record. Text of the stream system is neither counted nor hashed.
func (s *Sum) Add(r Record) {
	s.Lines++
	if r.Stream == System {
		return
	}
	if s.hash == nil {
		s.hash = sha256.New()
	}
	s.text = r.AppendText(s.text[:0])
	s.Bytes += int64(len(s.text))
	_, _ = s.hash.Write(s.text) // a hash never fails
}

// SHA256 returns the hex hash of the text so far.
func (s *Sum) SHA256() string {
	if s.hash == nil {
		empty := sha256.Sum256(nil)
		return hex.EncodeToString(empty[:])
	}
	return hex.EncodeToString(s.hash.Sum(nil))
}

// Manifest returns the sum in the form that reports carry.
func (s *Sum) Manifest(chunks int, truncated bool) ci.LogManifest {
	return ci.LogManifest{Lines: s.Lines, Bytes: s.Bytes, Chunks: chunks, SHA256: s.SHA256(), Truncated: truncated}
}
