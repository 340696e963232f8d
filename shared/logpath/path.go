// Package logpath is the contract of LOG_PATH: what lies where in the bucket,
// and how a log record, a chunk index, a status object, a report and an output
// file are written. Agents, coordinators and clients all go by it.
package logpath

import (
	"fmt"
	"strings"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
)

// Scheme begins every root and path.
const Scheme = "s3://"

// Path is the place of one attempt in the bucket. The zero Path is no place.
type Path struct {
	bucket string
	prefix string // key prefix, without bucket and without slashes at its ends
}

// New returns the place of an attempt: its number and its fence keep a stale
// attempt from overwriting a newer one. Root is s3://bucket/prefix/<cluster id>
// and has passed CheckRoot.
func New(root string, t ci.TenantID, r ci.RunID, step string, number int, fence uint64) Path {
	bucket, _ := split(root)
	return Path{bucket, runKey(root, t, r) + fmt.Sprintf("/%s/%d-%d", step, number, fence)}
}

// Parse reads what String writes.
func Parse(s string) (Path, error) {
	if err := CheckRoot(s); err != nil {
		return Path{}, ci.Errorf(ci.Invalid, "cannot use log path: %w", err)
	}
	bucket, prefix := split(s)
	return Path{bucket, prefix}, nil
}

// CheckRoot returns an error unless root has the form s3://bucket/prefix.
func CheckRoot(root string) error {
	bucket, prefix := split(root)
	if !strings.HasPrefix(root, Scheme) || bucket == "" || prefix == "" {
		return ci.Errorf(ci.Invalid, "%q is not of the form s3://bucket/prefix", root)
	}
	return nil
}

func split(s string) (bucket, prefix string) {
	bucket, prefix, _ = strings.Cut(strings.TrimPrefix(s, Scheme), "/")
	return bucket, strings.Trim(prefix, "/")
}

// String returns the path as LOG_PATH holds it, without a slash at its end.
func (p Path) String() string { return Scheme + p.bucket + "/" + p.prefix }

// Bucket returns the bucket's name.
func (p Path) Bucket() string { return p.bucket }

// Prefix returns the key below which everything of the attempt lies, without
// a slash at its end.
func (p Path) Prefix() string { return p.prefix }

// Key returns the key of the object name below the path.
func (p Path) Key(name string) string { return p.prefix + "/" + name }

// Status returns the key of the final status, put once.
func (p Path) Status() string { return p.Key("status.json") }

// State returns the key of the live state, best effort.
func (p Path) State() string { return p.Key("state.json") }

// Index returns the key of the log's index.
func (p Path) Index() string { return p.Key("log/index.json") }

// Chunk returns the key of log chunk n; the first is 1.
func (p Path) Chunk(n int) string { return p.Key(fmt.Sprintf("log/%06d.ndjson.zst", n)) }

// Artifact returns the key of an artifact.
func (p Path) Artifact(name string) string { return p.Key("artifacts/" + name) }

// Report returns the key of the step's own report.
func (p Path) Report() string { return p.Key("report.json") }

// Complete returns the key of the step's one-word report.
func (p Path) Complete() string { return p.Key("complete") }

// ClusterRecord returns the key of the object that describes the cluster.
func ClusterRecord(root string) string { return rootKey(root, "cluster.json") }

// Source returns the key of a source archive.
func Source(root string, t ci.TenantID, sha256 string) string {
	return rootKey(root, "t/"+string(t)+"/src/"+sha256+".tar.zst")
}

// RunRecord returns the key of the record of a finished run.
func RunRecord(root string, t ci.TenantID, r ci.RunID) string {
	return runKey(root, t, r) + "/run.json.zst"
}

// RunMark returns the key of the empty object that lists a run under its day (UTC).
func RunMark(root string, t ci.TenantID, day time.Time, r ci.RunID) string {
	return rootKey(root, "t/"+string(t)+"/runs/"+day.UTC().Format(time.DateOnly)+"/"+string(r))
}

func runKey(root string, t ci.TenantID, r ci.RunID) string {
	return rootKey(root, "t/"+string(t)+"/r/"+string(r))
}

func rootKey(root, rest string) string {
	_, prefix := split(root)
	if prefix == "" {
		return rest
	}
	return prefix + "/" + rest
}
