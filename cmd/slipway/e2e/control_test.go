//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// control runs subtests beside each other on one fleet.
func control(t *testing.T, tests map[string]func(t *testing.T, f *fleet)) {
	t.Helper()
	f := startFleet(t, noDocker())
	t.Run("cases", func(t *testing.T) {
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, f.as(t))
			})
		}
	})
	f.nothingLeft()
}

// chain is three steps that hand a value on, and a last word.
const chain = head + `
params: { n: { type: integer, default: 1 } }
steps:
- id: make
  run: 'echo "v=$PARAM_N-$SLIPWAY_ATTEMPT" >> "$SLIPWAY_REPORT_DIR/outputs"'
  outputs: [v]
- id: use
  run: 'echo "$STEP_MAKE_V $PARAM_N ${EXTRA:-none}"; test "$STEP_MAKE_V" != "1-1" || exit 3'
- { id: last, run: 'echo "last $STEP_MAKE_V"' }
finally:
- { id: report, run: 'echo "$RUN_STATE"' }
`

// TestE2ERetry opens steps of finished runs again.
func TestE2ERetry(t *testing.T) {
	t.Parallel()
	control(t, map[string]func(*testing.T, *fleet){
		"one step with other parameters": retryOneStep,
		"what failed":                    retryFailed,
		"a step and all after it":        retryFrom,
		"a passed run":                   retryPassed,
		"refused":                        retryRefused,
		"step left out at submit":        retryLeftOut,
	})
}

func retryOneStep(t *testing.T, f *fleet) {
	r := f.run(chain)
	r.ends(t, 1, "make=passed use=failed(exit_code) last=not_run(dependency_failed) report=passed")

	// Alone, with other parameters: no container but its own.
	f.code(1, nil, "step", "retry", r.ID+"/make", "--param", "n=7", "--follow")
	r = f.show(r.ID)
	r.ends(t, 1, "make=passed use=failed(exit_code) last=not_run(dependency_failed) report=passed")
	if r.tries() != "make=2 use=1 last=0 report=2" || r.Round != 2 {
		t.Errorf("after the retry of make: attempts %s, round %d", r.tries(), r.Round)
	}
	if got := r.step(t, "make").Outputs["v"]; got != "7-2" {
		t.Errorf("make hands on %q, want that of its last generation", got)
	}
	if r.Params["n"] != "1" {
		t.Errorf("the run's own parameter became %q", r.Params["n"])
	}

	// What follows sees the outputs of the last passed generation, and its own
	// parameter and variable.
	f.code(0, nil, "runs", "retry", r.ID, "--step", "use", "--param", "n=9", "--env", "EXTRA=more", "--follow")
	r = f.show(r.ID)
	r.ends(t, 0, "make=passed use=passed last=passed report=passed")
	if r.tries() != "make=2 use=2 last=1 report=3" {
		t.Errorf("after the retry of use: attempts %s", r.tries())
	}
	for ref, want := range map[string]string{
		"use#1": "1-1 1 none\n", "use#2": "7-2 9 more\n", "last": "last 7-2\n", "report#1": "failed\n", "report#3": "passed\n",
	} {
		if diff := cmp.Diff(want, f.rawLog(r.ID+"/"+ref)); diff != "" {
			t.Errorf("log of %s (-want +got):\n%s", ref, diff)
		}
	}
	entries := f.audit("--run", r.ID)
	if len(entries) != 3 || entries[0].Action != "run.retry" || entries[0].Before != "failed" || !strings.Contains(entries[0].After, "use last report") {
		t.Errorf("audit %+v", entries)
	}
}

func retryFailed(t *testing.T, f *fleet) {
	r := f.run(chain)
	res := f.must("runs", "retry", r.ID, "--failed", "--param", "n=2")
	if !strings.Contains(res.stdout, "use, last, report") {
		t.Errorf("it does not say what it opened: %s", res)
	}
	r = f.wait(r.ID)
	// make had passed: its value stays, so use fails again.
	r.ends(t, 1, "make=passed use=failed(exit_code) last=not_run(dependency_failed) report=passed")
	if r.tries() != "make=1 use=2 last=0 report=2" {
		t.Errorf("attempts %s", r.tries())
	}
	if got := f.rawLog(r.ID + "/use"); got != "1-1 2 none\n" {
		t.Errorf("use printed %q", got)
	}
}

func retryFrom(t *testing.T, f *fleet) {
	r := f.run(chain, "--param", "n=5")
	r.ends(t, 0, "make=passed use=passed last=passed report=passed")
	f.must("runs", "retry", r.ID, "--from", "use")
	r = f.wait(r.ID)
	r.ends(t, 0, "make=passed use=passed last=passed report=passed")
	if r.tries() != "make=1 use=2 last=2 report=2" {
		t.Errorf("attempts %s", r.tries())
	}
	for _, id := range []string{"use", "last"} {
		s := r.step(t, id)
		if s.Generation != 2 || s.Attempts[0].Generation != 1 || s.Attempts[1].Generation != 2 {
			t.Errorf("generations of %s: %d, of its attempts %d and %d", id, s.Generation, s.Attempts[0].Generation, s.Attempts[1].Generation)
		}
	}
}

func retryPassed(t *testing.T, f *fleet) {
	r := f.run(chain, "--param", "n=5")
	var again runJSON
	f.must("step", "retry", r.ID+"/last", "-o", "json").decode(t, &again)
	if again.State != "running" || again.Round != 2 || again.FinishedAt != nil {
		t.Errorf("a run whose step is opened again is %s, round %d, finished at %v", again.State, again.Round, again.FinishedAt)
	}
	r = f.wait(r.ID)
	if r.tries() != "make=1 use=1 last=2 report=2" || r.State != "passed" {
		t.Errorf("%s, attempts %s", r.State, r.tries())
	}
	if out := f.must("runs", "retry", r.ID, "--step", "last", "--follow").stdout; strings.Count(out, "| last 5-1") != 1 {
		t.Errorf("the follower of a retry does not print just the new attempt:\n%s", out)
	}
}

func retryRefused(t *testing.T, f *fleet) {
	r := f.run(chain, "--param", "n=5")
	for _, tt := range []struct {
		code int
		say  string
		args []string
	}{
		{2, "none of its steps has failed", []string{"runs", "retry", r.ID}},
		{2, "choose one of --failed, --from and --step", []string{"runs", "retry", r.ID, "--failed", "--step", "use"}},
		{5, `no step "usee"`, []string{"runs", "retry", r.ID, "--step", "usee"}},
		{5, `no step "nix"`, []string{"step", "retry", r.ID + "/nix"}},
		{2, "m", []string{"step", "retry", r.ID + "/use", "--param", "m=1"}},
		{2, "n", []string{"step", "retry", r.ID + "/use", "--param", "n=many"}},
		{2, "no name of a variable", []string{"step", "retry", r.ID + "/use", "--env", "A B=1"}},
		{2, "NAME=VALUE", []string{"step", "retry", r.ID + "/use", "--env", "A"}},
		{2, "RUN/STEP", []string{"step", "retry", r.ID}},
		{5, "there is no run", []string{"runs", "retry", "zzzz"}},
	} {
		f.code(tt.code, []string{tt.say}, tt.args...)
	}
	if got := f.show(r.ID); got.tries() != r.tries() || got.Round != 1 {
		t.Errorf("refused retries changed the run: %s, round %d", got.tries(), got.Round)
	}
}

func retryLeftOut(t *testing.T, f *fleet) {
	r := f.run(head+"steps:\n- { id: a, run: exit 0 }\n- { id: b, run: exit 0 }\n- { id: c, skip: down, run: exit 1 }\n", "--only", "a")
	r.ends(t, 0, "a=passed b=skipped(not_in_only) c=skipped(not_in_only)")
	f.must("step", "retry", r.ID+"/b")
	r = f.wait(r.ID)
	r.ends(t, 0, "a=passed b=passed c=skipped(not_in_only)")
	if r.tries() != "a=1 b=1 c=0" {
		t.Errorf("attempts %s", r.tries())
	}
	f.code(2, []string{"the workflow file leaves it out"}, "step", "retry", r.ID+"/c")
}

// auditJSON is an entry of the audit.
type auditJSON struct {
	Index  string `json:"index"`
	At     string `json:"at"`
	Actor  string `json:"actor"`
	Action string `json:"action"`
	Run    string `json:"run"`
	Step   string `json:"step"`
	SHA    string `json:"sha"`
	Reason string `json:"reason"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// audit reads the audit, newest first.
func (f *fleet) audit(flags ...string) []auditJSON {
	f.t.Helper()
	var list struct {
		Entries []auditJSON `json:"entries"`
	}
	f.must(append([]string{"audit", "ls", "-o", "json"}, flags...)...).decode(f.t, &list)
	return list.Entries
}
