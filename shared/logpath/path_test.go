package logpath

import (
	"testing"
	"time"
)

func TestPath(t *testing.T) {
	t.Parallel()
	const root = "s3://ci/slipway/01cluster"
	p := New(root, "pay", "01run", "unit.go-1.26.s1", 2, 4294967297)
	if want := "s3://ci/slipway/01cluster/t/pay/r/01run/unit.go-1.26.s1/2-4294967297"; p.String() != want {
		t.Fatalf("path %s, want %s", p, want)
	}
	const prefix = "slipway/01cluster/t/pay/r/01run/unit.go-1.26.s1/2-4294967297"
	for _, c := range []struct{ got, want string }{
		{p.Bucket(), "ci"},
		{p.Prefix(), prefix},
		{p.Status(), prefix + "/status.json"},
		{p.State(), prefix + "/state.json"},
		{p.Index(), prefix + "/log/index.json"},
		{p.Chunk(1), prefix + "/log/000001.ndjson.zst"},
		{p.Chunk(1234567), prefix + "/log/1234567.ndjson.zst"},
		{p.Artifact("cover/a b.out"), prefix + "/artifacts/cover/a b.out"},
		{p.Report(), prefix + "/report.json"},
		{p.Complete(), prefix + "/complete"},
		{ClusterRecord(root), "slipway/01cluster/cluster.json"},
		{Source(root, "pay", "abc"), "slipway/01cluster/t/pay/src/abc.tar.zst"},
		{RunRecord(root, "pay", "01run"), "slipway/01cluster/t/pay/r/01run/run.json.zst"},
		{RunMark(root, "pay", time.Date(2026, 3, 1, 23, 30, 0, 0, time.FixedZone("", -3600)), "01run"), "slipway/01cluster/t/pay/runs/2026-03-02/01run"},
		{New("s3://b/c", "t", "r", "s", 1, 1).Prefix(), "c/t/t/r/r/s/1-1"},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
}

func TestParsePath(t *testing.T) {
	t.Parallel()
	p := New("s3://ci/01cluster", "pay", "01run", "unit", 1, 7)
	for _, s := range []string{p.String(), p.String() + "/"} {
		if got, err := Parse(s); err != nil || got != p {
			t.Errorf("Parse(%s) = %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "s3://", "s3://b", "s3://b/", "/b/c", "http://b/c", "s3:///c"} {
		if got, err := Parse(s); err == nil {
			t.Errorf("Parse(%q) = %v, want an error", s, got)
		}
	}
}
