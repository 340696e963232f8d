//go:build e2e

package e2e

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// shape demands fields of a JSON object; the names are what tools rely on.
func shape(t testing.TB, what string, v any, fields ...string) map[string]any {
	t.Helper()
	m, ok := v.(map[string]any)
	if !ok {
		t.Fatalf("%s is no object: %v", what, v)
	}
	for _, name := range fields {
		if _, ok := m[name]; !ok {
			t.Errorf("%s has no field %s; it has %v", what, name, slices.Sorted(maps.Keys(m)))
		}
	}
	return m
}

func list(t testing.TB, v any) []any {
	t.Helper()
	l, ok := v.([]any)
	if !ok || len(l) == 0 {
		t.Fatalf("no list, or an empty one: %v", v)
	}
	return l
}

// TestE2EOutput holds -o to what is promised.
func TestE2EOutput(t *testing.T) {
	t.Parallel()
	f := startFleet(t, noDocker())
	r := f.run(chain, "--param", "n=2")
	waiting := f.submit(head + "steps:\n- { id: a, queue: nobody, run: exit 0 }\n")
	f.awaitStep(waiting.ID, "a", "queued")

	var doc any
	f.must("runs", "show", r.ID, "-o", "json").decode(t, &doc)
	run := shape(t, "a run", doc, "id", "workflow", "state", "reason", "sha", "ref", "params", "created_at", "finished_at", "steps")
	step := shape(t, "a step", list(t, run["steps"])[0], "id", "name", "state", "reason", "wait_reason", "generation", "attempts")
	shape(t, "an attempt", list(t, step["attempts"])[0],
		"id", "number", "state", "reason", "exit_code", "agent", "image_digest", "log_path", "started_at", "finished_at")

	f.must("runs", "show", waiting.ID, "-o", "json").decode(t, &doc)
	run = shape(t, "a run", doc, "finished_at")
	if run["finished_at"] != nil || run["params"] == nil {
		t.Errorf("a run that goes on: finished_at %v, params %v", run["finished_at"], run["params"])
	}
	step = shape(t, "a step", list(t, run["steps"])[0], "wait_reason")
	if why := shape(t, "a wait_reason", step["wait_reason"], "code", "message", "since", "detail"); why["code"] != "no_agent_matches" {
		t.Errorf("it waits for %v", why)
	}
	first := shape(t, "an attempt", list(t, step["attempts"])[0], "state", "queued_at", "started_at")
	if code, ok := first["exit_code"]; ok || first["started_at"] != nil {
		t.Errorf("an attempt that has not begun: exit code %v, started_at %v", code, first["started_at"])
	}

	for verb, key := range map[string]string{
		"runs ls": "runs", "agent ls": "agents", "audit ls": "entries", "artifact ls " + r.ID: "artifacts",
	} {
		f.must(append(strings.Fields(verb), "-o", "json")...).decode(t, &doc)
		shape(t, verb, doc, key)
	}
	f.formats(r.ID)
	f.oneObject(r.ID, waiting.ID)
}

// formats looks at the formats of a list and of an object.
func (f *fleet) formats(run string) {
	t := f.t
	t.Helper()
	lines := strings.Split(strings.TrimSpace(f.must("runs", "ls", "-o", "jsonl").stdout), "\n")
	if len(lines) != 2 {
		t.Errorf("jsonl of two runs has %d lines", len(lines))
	}
	for _, line := range lines {
		var one runJSON
		if err := json.Unmarshal([]byte(line), &one); err != nil || one.ID == "" {
			t.Errorf("a line of jsonl: %v\n%s", err, line)
		}
	}
	if got := f.must("runs", "ls", "-o", "name").stdout; strings.Count(got, "\n") != 2 || !strings.HasSuffix(got, run+"\n") {
		t.Errorf("name of the runs:\n%s", got)
	}
	var fromYAML, fromJSON map[string]any
	if err := yaml.Unmarshal([]byte(f.must("runs", "show", run, "-o", "yaml").stdout), &fromYAML); err != nil {
		t.Error(err)
	}
	f.must("runs", "show", run, "-o", "json").decode(t, &fromJSON)
	if fromYAML["id"] != run || fromYAML["state"] != fromJSON["state"] || len(fromYAML) != len(fromJSON) {
		t.Errorf("yaml and json differ: %v, %v", fromYAML, fromJSON)
	}
	table := f.must("runs", "ls").stdout
	if strings.Contains(table, "\x1b") {
		t.Errorf("colours where no terminal is:\n%q", table)
	}
	for _, want := range []string{"RUN", "WORKFLOW", "STATE", run, "passed"} {
		if !strings.Contains(table, want) {
			t.Errorf("the table lacks %s:\n%s", want, table)
		}
	}
}

// oneObject looks at the verbs that change something: they print the run.
func (f *fleet) oneObject(passed, waiting string) {
	t := f.t
	t.Helper()
	var doc runJSON
	f.must("step", "skip", waiting+"/a", "-m", "x", "-o", "json").decode(t, &doc)
	if doc.ID != waiting || doc.step(t, "a").State != "skipped" {
		t.Errorf("step skip prints %+v", doc)
	}
	f.must("runs", "retry", passed, "--step", "last", "-o", "json").decode(t, &doc)
	if doc.ID != passed || doc.Round != 2 {
		t.Errorf("runs retry prints %+v", doc)
	}
	// The document alone on standard output, also where the run is followed.
	for _, args := range [][]string{{"runs", "watch", passed}, {"runs", "watch", passed, "--logs"}, {"runs", "retry", passed, "--step", "last", "--follow"}} {
		doc = runJSON{}
		f.must(append(args, "-o", "json")...).decode(t, &doc)
		if doc.ID != passed || !doc.Final {
			t.Errorf("%v prints %+v", args, doc)
		}
	}
	var step stepJSON
	f.must("step", "show", passed+"/last", "-o", "json").decode(t, &step)
	if step.ID != "last" || len(step.Attempts) != 3 {
		t.Errorf("step show prints %+v", step)
	}
	var info map[string]any
	f.must("whoami", "-o", "json").decode(t, &info)
	shape(t, "whoami", info, "version", "cluster", "user", "role", "tenant", "leader", "bucket", "s3_endpoint", "registry")
	if info["user"] != "admin" || info["role"] != "admin" || info["cluster"] != f.cluster {
		t.Errorf("whoami says %v", info)
	}
	f.must("version", "-o", "json").decode(t, &info)
	shape(t, "version", info, "version", "build")
}
