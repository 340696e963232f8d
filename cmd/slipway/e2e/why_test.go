//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// TestE2EWhy: a waiting step always says why, in JSON, in tables and in words.
func TestE2EWhy(t *testing.T) {
	t.Parallel()
	f := startFleet(t, noDocker())
	r := f.submit(`
timeout: 5m
defaults: { executor: process }
steps:
- { id: queue, needs: [], queue: gpu, run: exit 0 }
- { id: tag, needs: [], tags: { os: plan9 }, run: exit 0 }
- { id: engine, needs: [], executor: docker, image: "busybox:1", run: exit 0 }
- { id: cores, needs: [], resources: { cpu: 500 }, run: exit 0 }
- { id: memory, needs: [], resources: { memory: 900Ti }, run: exit 0 }
- { id: again, needs: [], run: exit 75, retry: [{ exit_codes: [75], limit: 1, backoff: 1h }] }
- { id: after, needs: [queue, tag], run: exit 0 }
finally:
- { id: last, run: exit 0 }
`)
	f.eventually("the retry pauses", func() bool {
		s := f.show(r.ID).step(t, "again")
		return len(s.Attempts) == 2 && s.WaitReason != nil
	})
	r = f.show(r.ID)
	table := f.must("runs", "show", r.ID).stdout
	for id, want := range map[string]struct{ code, message, detail, why string }{
		"queue":  {"no_agent_matches", "it serves queue default", "wants queue gpu", "queue gpu"},
		"tag":    {"no_agent_matches", `its tag os is "linux", not "plan9"`, "os=plan9", "plan9"},
		"engine": {"no_agent_matches", "it has no executor docker", "executor docker", "executor docker"},
		"cores":  {"no_agent_matches", "the step wants 500.0", "", "500.0"},
		"memory": {"no_agent_matches", "MiB of memory, the step wants", "", "MiB of memory"},
		"again":  {"backoff", "tried again in", "", "tried again in"},
		"after":  {"waiting_for", "waits for queue, tag", "queue tag", "it needs step tag, which is queued"},
		"last":   {"waiting_for", "waits for queue, tag, engine", "", "waits for queue"},
	} {
		w := r.step(t, id).WaitReason
		if w == nil || w.Code != want.code || !strings.Contains(w.Message, want.message) || !strings.Contains(w.Detail, want.detail) {
			t.Errorf("%s waits for %+v, want %+v", id, w, want)
			continue
		}
		if !strings.Contains(table, w.Message[:min(len(w.Message), 20)]) {
			t.Errorf("the table does not say why %s waits:\n%s", id, table)
		}
		if out := f.must("step", "why", r.ID+"/"+id).stdout; !strings.Contains(out, want.why) {
			t.Errorf("step why of %s does not say %q:\n%s", id, want.why, out)
		}
		if out := f.must("step", "show", r.ID+"/"+id).stdout; !strings.Contains(out, "waits     "+w.Message[:15]) {
			t.Errorf("step show of %s does not say why it waits:\n%s", id, out)
		}
	}
	f.must("runs", "cancel", r.ID)
	f.wait(r.ID)
	if w := f.show(r.ID).step(t, "queue").WaitReason; w != nil {
		t.Errorf("a step that is over waits for %+v", w)
	}
}

// TestE2EFull: steps that find the agent full say so, with figures, and go when
// there is room again; the agent shows what it runs.
func TestE2EFull(t *testing.T) {
	t.Parallel()
	f := startFleet(t, noDocker())
	gate := f.path("go")
	holds := `run: 'echo up; while [ ! -e ` + gate + ` ]; do sleep 0.05; done'`
	r := f.submit(head + `
steps:
- { id: big, needs: [], resources: { memory: 1Gi, cpu: 1000m }, ` + holds + ` }
- { id: all, needs: [big], run: exit 0 }
- { id: h1, needs: [], ` + holds + ` }
- { id: h2, needs: [], ` + holds + ` }
- { id: h3, needs: [], ` + holds + ` }
- { id: h4, needs: [], ` + holds + ` }
- { id: h5, needs: [], ` + holds + ` }
- { id: h6, needs: [], ` + holds + ` }
- { id: h7, needs: [], ` + holds + ` }
`)
	for _, id := range []string{"big", "h1", "h2", "h3", "h4", "h5", "h6", "h7"} {
		f.awaitStep(r.ID, id, "running")
	}
	late := f.submit(head + "steps:\n- { id: a, resources: { cpu: 250m }, run: exit 0 }\n")
	s := f.awaitStep(late.ID, "a", "queued")
	if w := s.WaitReason; w == nil || w.Code != "agents_full" || !strings.Contains(w.Detail, "needs 0.2 cores") || !strings.Contains(w.Detail, "0 slots") {
		t.Errorf("with eight steps on eight slots the ninth waits for %+v", w)
	}
	if out := f.must("step", "why", late.ID+"/a").stdout; !strings.Contains(out, "the only matching agent is full (needs") {
		t.Errorf("step why:\n%s", out)
	}
	var list struct {
		Agents []struct {
			Name, State, ID string
			Slots, Running  int
			Attempts        []string
			Executors       []string
			Tags            map[string]string
			Used, Capacity  struct{ CPU, Memory float64 }
		}
	}
	f.must("agent", "ls", "-o", "json").decode(t, &list)
	if len(list.Agents) != 1 {
		t.Fatalf("there are %d agents", len(list.Agents))
	}
	a := list.Agents[0]
	if a.State != "ready" || a.Running != 8 || a.Slots != 8 || len(a.Attempts) != 8 || a.Used.CPU != 1 || a.Used.Memory != 1<<30 || a.Tags["os"] != "linux" {
		t.Errorf("the agent shows %+v", a)
	}
	for _, name := range []string{a.Name, a.ID} {
		out := f.must("agent", "show", name).stdout
		for _, want := range []string{a.ID, "ready", "process", r.ID + "/h7#1", "tag       os=linux"} {
			if !strings.Contains(out, want) {
				t.Errorf("agent show %s does not say %q:\n%s", name, want, out)
			}
		}
	}
	if out := f.must("agent", "ls").stdout; !strings.Contains(out, "8/8") {
		t.Errorf("agent ls:\n%s", out)
	}
	f.lift(gate)
	if r = f.wait(r.ID); r.State != "passed" {
		t.Errorf("the full house is %s: %s", r.State, r.states())
	}
	if late = f.wait(late.ID); late.State != "passed" {
		t.Errorf("the late one is %s", late.State)
	}
	f.nothingLeft()
}

// TestE2EAudit: who did what, by run and by commit.
func TestE2EAudit(t *testing.T) {
	t.Parallel()
	f := startFleet(t, noDocker())
	code := f.newRepo(map[string]string{".slipway/workflow.yaml": head + "steps: [{ id: a, run: exit 0 }]\n"})
	var one, two runJSON
	f.in(code.dir, "run", "-o", "json").decode(t, &one)
	code.commit(map[string]string{"x": "1"})
	f.in(code.dir, "run", "-o", "json").decode(t, &two)
	f.wait(one.ID)
	f.wait(two.ID)
	f.must("step", "retry", one.ID+"/a")
	f.wait(one.ID)
	for _, tt := range []struct {
		flags []string
		want  string
	}{
		{nil, "run.retry run.create run.create"},
		{[]string{"--run", one.ID}, "run.retry run.create"},
		{[]string{"--run", two.ID[10:]}, "run.create"},
		{[]string{"--sha", one.SHA}, "run.retry run.create"},
		{[]string{"--sha", two.SHA[:9]}, "run.create"},
		{[]string{"--sha", strings.Repeat("0", 40)}, ""},
		{[]string{"--limit", "1"}, "run.retry"},
	} {
		var got []string
		for _, e := range f.audit(tt.flags...) {
			got = append(got, e.Action)
			if e.Actor != "token:admin" || e.At == "" || e.Run == "" || e.SHA == "" {
				t.Errorf("audit %v: %+v", tt.flags, e)
			}
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("audit %v: %v, want %s", tt.flags, got, tt.want)
		}
	}
	var page struct{ Next string }
	f.must("audit", "ls", "--limit", "1", "-o", "json").decode(t, &page)
	if rest := f.audit("--before", page.Next); len(rest) != 2 || rest[0].Action != "run.create" {
		t.Errorf("the page after %s: %+v", page.Next, rest)
	}
	if out := f.must("audit", "ls", "--run", one.ID).stdout; !strings.Contains(out, "token:admin") || !strings.Contains(out, "run.retry") {
		t.Errorf("the table:\n%s", out)
	}
}
