package api

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/wire"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

func TestSubmit(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	run := b.submit(func(r *pb.SubmitRunRequest) {
		r.Repo, r.Sha, r.Ref, r.Branch = "https://host/shop.git", strings.ToUpper(someSHA), "refs/heads/main", "main"
		r.Params = map[string]string{"suite": "full"}
		r.Skip = []string{"test"}
	})
	if run.GetState() != "queued" || run.GetWorkflow() != "main" || run.GetDescription() != "two steps" || run.GetTenant() != "default" ||
		run.GetSha() != someSHA || run.GetBranch() != "main" || run.GetParams()["suite"] != "full" || run.GetCreatedBy() != "token:ada" {
		t.Errorf("run: %v", run)
	}
	if s := run.GetSteps(); len(s) != 2 || s[0].GetState() != "pending" || s[0].GetWaitReason() == nil ||
		s[1].GetState() != "skipped" || s[1].GetWaitReason() != nil || s[1].GetNeeds()[0] != "build" {
		t.Errorf("steps: %v", s)
	}
	again := b.submit()
	if again.GetId() == run.GetId() {
		t.Error("two submits without a key are one run")
	}
	if n := b.log.ops["workflow.put"]; n != 1 {
		t.Errorf("the workflow was stored %d times", n)
	}
	if again.GetParams()["suite"] != "fast" {
		t.Errorf("no default: %v", again.GetParams())
	}
}

func TestSubmitWithKey(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	req := &pb.SubmitRunRequest{WorkflowYaml: twoSteps, IdempotencyKey: "k1"}
	first, err := b.runs.SubmitRun(t.Context(), req)
	if err != nil || first.GetExisted() {
		t.Fatalf("first: %v, %v", first, err)
	}
	second, err := b.runs.SubmitRun(t.Context(), req)
	if err != nil || !second.GetExisted() || second.GetRun().GetId() != first.GetRun().GetId() {
		t.Errorf("second: %v, %v", second, err)
	}
	// Another tenant's keys are its own.
	req.Tenant = "shop"
	third, err := b.runs.SubmitRun(t.Context(), req)
	if err != nil || third.GetExisted() {
		t.Errorf("another tenant: %v, %v", third, err)
	}
	_, err = b.runs.SubmitRun(t.Context(), &pb.SubmitRunRequest{WorkflowYaml: twoSteps, IdempotencyKey: strings.Repeat("k", 300)})
	wantErr(t, "long key", err, ci.Invalid, "300 bytes")
}

func TestSubmitRefusals(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for name, c := range map[string]struct {
		edit func(*pb.SubmitRunRequest)
		kind ci.Kind
		text string
	}{
		"empty":            {func(r *pb.SubmitRunRequest) { r.WorkflowYaml = " \n" }, ci.Invalid, "is empty"},
		"too large":        {func(r *pb.SubmitRunRequest) { r.WorkflowYaml = strings.Repeat("#\n", 1<<20) }, ci.Invalid, "the most is 1048576"},
		"no dispatch":      {func(r *pb.SubmitRunRequest) { r.WorkflowYaml += "on: { dispatch: false }\n" }, ci.Conflict, "on.dispatch: false"},
		"not yet":          {func(r *pb.SubmitRunRequest) { r.WorkflowYaml += "concurrency: x\n" }, ci.Unsupported, "available yet"},
		"bad parameter":    {func(r *pb.SubmitRunRequest) { r.Params = map[string]string{"suite": "slow"} }, ci.Invalid, "suite"},
		"no such param":    {func(r *pb.SubmitRunRequest) { r.Params = map[string]string{"suit": "fast"} }, ci.Invalid, "suite"},
		"no such step":     {func(r *pb.SubmitRunRequest) { r.Only = []string{"biuld"} }, ci.Invalid, "build"},
		"short sha":        {func(r *pb.SubmitRunRequest) { r.Repo, r.Sha = "/r", "abc123" }, ci.Invalid, "full commit id"},
		"no sha":           {func(r *pb.SubmitRunRequest) { r.Repo = "/r" }, ci.Invalid, "needs the full commit id"},
		"no repo":          {func(r *pb.SubmitRunRequest) { r.Sha = someSHA }, ci.Invalid, "needs the repository"},
		"option as repo":   {func(r *pb.SubmitRunRequest) { r.Repo, r.Sha = "--upload-pack=x", someSHA }, ci.Invalid, "is no repo"},
		"program as repo":  {func(r *pb.SubmitRunRequest) { r.Repo, r.Sha = "ext::sh -c x", someSHA }, ci.Invalid, "names a program"},
		"newline in ref":   {func(r *pb.SubmitRunRequest) { r.Ref = "refs/heads/a\nb" }, ci.Invalid, "is no ref"},
		"short ref":        {func(r *pb.SubmitRunRequest) { r.Ref = "main" }, ci.Invalid, "not a full one"},
		"long branch":      {func(r *pb.SubmitRunRequest) { r.Branch = strings.Repeat("b", 2000) }, ci.Invalid, "2000 bytes"},
		"odd archive":      {func(r *pb.SubmitRunRequest) { r.Archive = "xyz" }, ci.Invalid, "not the sha256"},
		"unknown archive":  {func(r *pb.SubmitRunRequest) { r.Archive = someSum }, ci.NotFound, "was not uploaded"},
		"unknown tenant":   {func(r *pb.SubmitRunRequest) { r.Tenant = "nobody" }, ci.NotFound, "no tenant"},
		"without a grant":  {func(r *pb.SubmitRunRequest) { r.Tenant, r.WorkflowYaml = "shop", raw }, ci.Forbidden, "docker_raw"},
		"more than queues": {func(r *pb.SubmitRunRequest) { r.Tenant, r.WorkflowYaml = "shop", fourSteps }, ci.Exhausted, "queue of tenant shop is full"},
	} {
		req := &pb.SubmitRunRequest{WorkflowYaml: twoSteps, File: "main.yaml"}
		c.edit(req)
		_, err := b.runs.SubmitRun(t.Context(), req)
		wantErr(t, name, err, c.kind, c.text)
	}
	if n := b.store.View().Runs(); n != 0 {
		t.Errorf("%d runs were made all the same", n)
	}
	if run := b.submit(func(r *pb.SubmitRunRequest) { r.WorkflowYaml = raw }); run.GetState() != "queued" {
		t.Errorf("with the grant: %v", run)
	}
}

const raw = `
defaults: { timeout: 10m }
steps:
  - id: image
    image: docker:27
    docker: raw
    run: docker build .
`

const fourSteps = `
defaults: { executor: process, timeout: 10m }
steps: [{ id: a, run: a }, { id: b, run: b }, { id: c, run: c }, { id: d, run: d }]
`

func TestProblemsTravel(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	_, err := b.runs.SubmitRun(t.Context(), &pb.SubmitRunRequest{
		File: "ci.yaml", WorkflowYaml: "steps:\n  - id: a\n    rn: x\n    executor: process\n  - id: a\n    run: y\n    executor: process\n",
	})
	wantErr(t, "two faults", err, ci.Invalid, "ci.yaml:3:5")
	got := wire.Problems(err)
	if len(got) < 2 || got[0].GetFile() != "ci.yaml" || got[0].GetLine() == 0 || got[0].GetColumn() == 0 || got[0].GetMessage() == "" || !strings.Contains(got[0].GetExcerpt(), "^") {
		t.Errorf("problems: %v", got)
	}
	// However many there are, the message fits into a header.
	var many strings.Builder
	many.WriteString("steps:\n")
	for range 300 {
		many.WriteString("  - unknown_key_" + strings.Repeat("x", 50) + ": y\n")
	}
	_, err = b.runs.SubmitRun(t.Context(), &pb.SubmitRunRequest{WorkflowYaml: many.String()})
	wantErr(t, "many faults", err, ci.Invalid, "more")
	if n := len(err.Error()); n > maxText+200 {
		t.Errorf("the message has %d bytes", n)
	}
	if n := len(wire.Problems(err)); n < 100 {
		t.Errorf("%d problems", n)
	}
}

func TestWarningsTravel(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	res, err := b.runs.SubmitRun(t.Context(), &pb.SubmitRunRequest{WorkflowYaml: "steps: [{ id: a, run: x, executor: process }]"})
	if err != nil {
		t.Fatal(err)
	}
	if w := res.GetWarnings(); len(w) == 0 || w[0].GetSeverity() != "warning" {
		t.Errorf("warnings: %v", w)
	}
}

func TestUploads(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	res, err := b.runs.CreateUpload(t.Context(), &pb.CreateUploadRequest{Sha256: someSum, Size: 5})
	if err != nil || res.GetExists() || !strings.Contains(res.GetUrl(), "p/c1/t/default/src/"+someSum+".tar.zst") {
		t.Fatalf("got %v, %v", res, err)
	}
	b.put("p/c1/t/default/src/"+someSum+".tar.zst", []byte("12345"))
	res, err = b.runs.CreateUpload(t.Context(), &pb.CreateUploadRequest{Sha256: someSum, Size: 5})
	if d := cmp.Diff(true, res.GetExists()); err != nil || d != "" {
		t.Errorf("second time: %v, %v", res, err)
	}
	if run := b.submit(func(r *pb.SubmitRunRequest) { r.Archive, r.Dirty, r.Repo, r.Sha = someSum, true, "/r", someSHA }); !run.GetDirty() {
		t.Errorf("run: %v", run)
	}
	_, err = b.runs.CreateUpload(t.Context(), &pb.CreateUploadRequest{Sha256: "abc", Size: 5})
	wantErr(t, "odd sum", err, ci.Invalid, "no")
	_, err = b.runs.CreateUpload(t.Context(), &pb.CreateUploadRequest{Sha256: someSum, Size: 1e15})
	wantErr(t, "too large", err, ci.Invalid, "the most is")
	b.bucket.Down(true)
	_, err = b.runs.CreateUpload(t.Context(), &pb.CreateUploadRequest{Sha256: someSum, Size: 5})
	wantErr(t, "bucket down", err, ci.Unavailable, "")
}
