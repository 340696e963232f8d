//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// engineCase is a workflow, and what has to become of it.
type engineCase struct {
	name  string
	yaml  string
	flags []string
	code  int
	want  string            // states of the steps
	tries string            // attempts of the steps; empty is not asked
	logs  map[string]string // step to what it printed
}

func orderCases() []engineCase {
	return []engineCase{
		{
			name: "series",
			yaml: "steps:\n- { id: a, run: exit 0 }\n- { id: b, run: exit 0 }\n- { id: c, run: exit 0 }\n",
			want: "a=passed b=passed c=passed", tries: "a=1 b=1 c=1",
		},
		{
			name: "graph",
			yaml: `
steps:
- { id: vet, needs: [], run: exit 0 }
- { id: unit, needs: [], run: exit 7 }
- { id: build, run: exit 0 }
- { id: docs, needs: [vet], run: exit 0 }
- { id: publish, needs: [docs, build], run: exit 0 }
`,
			code:  1,
			want:  "vet=passed unit=failed(exit_code) build=not_run(dependency_failed) docs=passed publish=not_run(dependency_failed)",
			tries: "vet=1 unit=1 build=0 docs=1 publish=0",
		},
		{
			name: "conditions",
			yaml: `
params: { full: { type: boolean, default: false } }
steps:
- { id: count, run: 'echo n=3 >> "$SLIPWAY_REPORT_DIR/outputs"', outputs: [n] }
- { id: full, if: params.full, run: exit 1 }
- { id: many, if: int(steps.count.outputs.n) > 2, run: echo many }
- { id: few, if: int(steps.count.outputs.n) < 2, run: exit 1 }
- { id: gone, skip: the machine is down, run: exit 1 }
- { id: last, run: echo last }
`,
			want: "count=passed full=skipped(if_false) many=passed few=skipped(if_false) gone=skipped(skip) last=passed",
			logs: map[string]string{"many": "many\n", "last": "last\n"},
		},
		{
			name:  "condition by parameter",
			yaml:  "params: { full: { type: boolean, default: false } }\nsteps:\n- { id: full, if: params.full, run: 'echo $PARAM_FULL' }\n",
			flags: []string{"--param", "full=true"},
			want:  "full=passed", logs: map[string]string{"full": "true\n"},
		},
		{
			name: "fail_fast",
			yaml: `
fail_fast: true
steps:
- { id: bad, needs: [], run: exit 1 }
- { id: waits, needs: [], queue: nobody, run: exit 0 }
- { id: after, needs: [waits], run: exit 0 }
finally:
- { id: report, run: echo "$RUN_STATE" }
`,
			code: 1,
			want: "bad=failed(exit_code) waits=canceled(fail_fast) after=not_run(dependency_failed) report=passed",
			logs: map[string]string{"report": "failed\n"},
		},
		{
			name: "finally",
			yaml: `
steps:
- { id: main, run: exit 0 }
finally:
- { id: one, run: echo "one $RUN_STATE" }
- { id: two, if: run.state == "failed", run: exit 1 }
- { id: three, run: echo "three $RUN_STATE" }
`,
			want: "main=passed one=passed two=skipped(if_false) three=passed",
			logs: map[string]string{"one": "one passed\n", "three": "three passed\n"},
		},
		{
			name: "only",
			yaml: `
steps:
- { id: a, run: exit 1 }
- { id: b, run: echo b }
- { id: c, run: exit 1 }
- { id: d, run: echo d }
`,
			flags: []string{"--only", "b,d"},
			want:  "a=skipped(not_in_only) b=passed c=skipped(not_in_only) d=passed",
		},
		{
			name:  "skip",
			yaml:  "steps:\n- { id: a, run: exit 1 }\n- { id: b, run: echo b }\n- { id: c, run: exit 1 }\n",
			flags: []string{"--skip", "a,c"},
			want:  "a=skipped(skipped_by_user) b=passed c=skipped(skipped_by_user)",
		},
	}
}

func endCases() []engineCase {
	return []engineCase{
		{
			name: "soft_fail",
			yaml: `
steps:
- { id: known, needs: [], run: exit 42, soft_fail: { exit_codes: [42] } }
- { id: any, needs: [], run: exit 5, soft_fail: true }
- { id: after, run: echo after }
`,
			want: "known=soft_failed(exit_code) any=soft_failed(exit_code) after=passed",
		},
		{
			name: "soft_fail of another code",
			yaml: "steps:\n- { id: a, run: exit 41, soft_fail: { exit_codes: [42] } }\n",
			code: 1, want: "a=failed(exit_code)",
		},
		{
			name: "retries",
			yaml: `
steps:
- id: third
  run: 'echo try $SLIPWAY_ATTEMPT; test $SLIPWAY_ATTEMPT -ge 3 || exit 75'
  retry: [{ exit_codes: [75], limit: 3, backoff: { initial: 300ms, factor: 2, max: 5s } }]
`,
			want: "third=passed", tries: "third=3", logs: map[string]string{"third": "try 3\n", "third#1": "try 1\n", "third#2": "try 2\n"},
		},
		{
			name: "retries used up",
			yaml: "steps:\n- { id: a, run: exit 75, retry: [{ exit_codes: [75], limit: 2, backoff: 50ms }] }\n",
			code: 1, want: "a=failed(exit_code)", tries: "a=3",
		},
		{
			name: "no rule for it",
			yaml: "steps:\n- { id: a, run: exit 74, retry: [{ exit_codes: [75], limit: 2, backoff: 50ms }] }\n",
			code: 1, want: "a=failed(exit_code)", tries: "a=1",
		},
		{
			name: "retry of a timeout",
			yaml: "steps:\n- { id: a, run: 'test $SLIPWAY_ATTEMPT -gt 1 || sleep 600', timeout: 1s, retry: [{ on: [timeout], limit: 1, backoff: 50ms }] }\n",
			want: "a=passed", tries: "a=2",
		},
		{
			name: "step timeout",
			yaml: "steps:\n- { id: slow, run: 'sleep 600', timeout: 1s, cancel: { grace: 1s } }\n- { id: after, run: exit 0 }\n",
			code: 4, want: "slow=timed_out(timeout) after=not_run(dependency_failed)",
		},
		{
			name: "completion by report",
			yaml: `
steps:
- { id: none, needs: [], completion: report, run: exit 0 }
- { id: word, needs: [], completion: report, run: 'echo SUCCESS > "$SLIPWAY_REPORT_DIR/complete"; sleep 600' }
- { id: failure, needs: [], run: 'echo FAILURE > "$SLIPWAY_REPORT_DIR/complete"; exit 0' }
- { id: ignored, needs: [], completion: exit, run: 'echo FAILURE > "$SLIPWAY_REPORT_DIR/complete"; exit 0' }
`,
			code: 1,
			want: "none=failed(no_report) word=passed failure=failed(reported_failure) ignored=passed",
		},
		{
			name:  "the fleet's fault",
			yaml:  "steps:\n- { id: a, run: exit 0, retry: [] }\n",
			flags: []string{"--repo", "/no/such/repository", "--sha", strings.Repeat("ab", 20)},
			code:  9, want: "a=failed(checkout)", tries: "a=1",
		},
		{
			name: "values",
			yaml: `
params:
  n: { type: integer, default: 4 }
  s: { type: choice, options: [x, y], default: x }
env: { ALL: "of ${{ params.n }}" }
steps:
- id: make
  env: { OWN: "${{ params.s }}-own" }
  run: |
    echo "$ALL $OWN $PARAM_N $PARAM_S"
    echo digest=sha256:1 >> "$SLIPWAY_REPORT_DIR/outputs"
    printf 'text<<EOF\none\ntwo\nEOF\n' >> "$SLIPWAY_REPORT_DIR/outputs"
  outputs: { image: digest, text: text }
- { id: argv, command: [printf, "%s|", "$HOME", "a b"] }
- { id: shell, shell: [/bin/sh, -c, 'echo "shell ran $(basename "$0")"'], run: ignored }
- { id: use, run: 'echo "$STEP_MAKE_IMAGE"; echo "$STEP_MAKE_TEXT"' }
`,
			flags: []string{"--param", "n=5"},
			want:  "make=passed argv=passed shell=passed use=passed",
			logs:  map[string]string{"make": "of 5 x-own 5 x\n", "argv": "$HOME|a b|", "use": "sha256:1\none\ntwo\n"},
		},
	}
}

// TestE2EEngine runs workflows through the whole: command line, coordinator,
// agent, process, bucket and back.
func TestE2EEngine(t *testing.T) {
	t.Parallel()
	f := startFleet(t, noDocker())
	t.Run("cases", func(t *testing.T) {
		for _, tt := range append(orderCases(), endCases()...) {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				f := f.as(t)
				r := f.run(head+tt.yaml, tt.flags...)
				r.ends(t, tt.code, tt.want)
				if tt.tries != "" && tt.tries != r.tries() {
					t.Errorf("attempts %s, want %s", r.tries(), tt.tries)
				}
				for ref, want := range tt.logs {
					if diff := cmp.Diff(want, f.rawLog(r.ID+"/"+ref)); diff != "" {
						t.Errorf("log of %s (-want +got):\n%s", ref, diff)
					}
				}
				r.inOrder(t)
			})
		}
	})
	f.nothingLeft()
}

// inOrder checks the numbers and times that a run shows.
func (r *runJSON) inOrder(t *testing.T) {
	t.Helper()
	for _, s := range r.Steps {
		for i, a := range s.Attempts {
			if a.Number != i+1 {
				t.Errorf("attempt %d of %s has number %d", i+1, s.ID, a.Number)
			}
			if a.StartedAt != nil && a.FinishedAt != nil && a.FinishedAt.Before(*a.StartedAt) {
				t.Errorf("%s#%d ended at %s before it began at %s", s.ID, a.Number, a.FinishedAt, a.StartedAt)
			}
		}
	}
}

// TestE2EBackoff looks at the pauses between attempts, and at series, by the
// attempts' own times.
func TestE2EBackoff(t *testing.T) {
	t.Parallel()
	f := startFleet(t, noDocker())
	r := f.run(head + `
steps:
- { id: a, run: exit 75, retry: [{ exit_codes: [75], limit: 2, backoff: { initial: 400ms, factor: 3 } }] }
- { id: b, needs: [], run: exit 0 }
- { id: c, needs: [b], run: exit 0 }
`)
	r.ends(t, 1, "a=failed(exit_code) b=passed c=passed")
	tries := r.step(t, "a").Attempts
	if len(tries) != 3 {
		t.Fatalf("%d attempts, want 3", len(tries))
	}
	for i, least := range []time.Duration{400 * time.Millisecond, 1200 * time.Millisecond} {
		if got := tries[i+1].StartedAt.Sub(*tries[i].FinishedAt); got < least {
			t.Errorf("attempt %d began %s after attempt %d ended, the rule says %s", i+2, got, i+1, least)
		}
	}
	b, c := r.step(t, "b").last(t), r.step(t, "c").last(t)
	if c.StartedAt.Before(*b.FinishedAt) {
		t.Errorf("c began at %s, before b ended at %s", c.StartedAt, b.FinishedAt)
	}
}
