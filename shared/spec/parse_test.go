package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-ci/slipway/shared/ci"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Every testdata/*.yaml gives what its .golden file holds: the problems, then
// the workflow when there is one.
func TestGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			w, problems := Parse(src, Options{File: filepath.Base(file)})
			if (w == nil) != problems.failed() {
				t.Errorf("workflow %v beside problems %v", w, problems)
			}
			var out bytes.Buffer
			if len(problems) > 0 {
				out.WriteString(problems.Error() + "\n")
			}
			if w != nil {
				dump(t, &out, w)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), out.String()); d != "" {
				t.Errorf("%s (-want +got):\n%s", golden, d)
			}
		})
	}
}

// dump writes w as JSON without what is zero: short, and a new field of the
// vocabulary changes no golden file.
func dump(t *testing.T, out *bytes.Buffer, w *ci.Workflow) {
	t.Helper()
	raw, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(prune(v)); err != nil {
		t.Fatal(err)
	}
}

func prune(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if e = prune(e); e == nil {
				delete(v, k)
			} else {
				v[k] = e
			}
		}
		if len(v) == 0 {
			return nil
		}
	case []any:
		if len(v) == 0 {
			return nil
		}
		for i := range v {
			v[i] = prune(v[i])
		}
	case string:
		if v == "" {
			return nil
		}
	case float64:
		if v == 0 {
			return nil
		}
	case bool:
		if !v {
			return nil
		}
	}
	return v
}

func TestProblemsErr(t *testing.T) {
	t.Parallel()
	_, ps := Parse([]byte("steps: [{run: x, image: 'a:1', timeout: 1m, matrix: {}}]"), Options{})
	if err := ps.Err(); ci.KindOf(err) != ci.Unsupported {
		t.Errorf("only later keys: %v, %v", ci.KindOf(err), err)
	}
	_, ps = Parse([]byte("steps: [{run: x, image: 'a:1', timeout: 1m, matrix: {}, nope: 1}]"), Options{})
	err := ps.Err()
	if ci.KindOf(err) != ci.Invalid {
		t.Errorf("got %v", ci.KindOf(err))
	}
	var back Problems
	if !errors.As(err, &back) || len(back) != 2 {
		t.Errorf("problems in the error: %v", back)
	}
	w, ps := Parse([]byte("steps: [{run: x, image: 'a'}]"), Options{File: ".slipway/nightly.yaml"})
	if w == nil || ps.Err() != nil || len(ps.Warnings()) != 2 || w.Name != "nightly" {
		t.Errorf("warnings: %v, %v", w, ps)
	}
}

// The cap on steps bounds the work on a list of what are none, too.
func TestStepCapCountsWhatIsNoStep(t *testing.T) {
	t.Parallel()
	_, problems := Parse([]byte("steps: ["+strings.Repeat("a,", 40_000)+"a]\n"), Options{File: "w.yaml"})
	if last := problems[len(problems)-1].Msg; !strings.HasPrefix(last, "and 190") {
		t.Errorf("of 40,001 words the first 2,000 are looked at; the last problem is %q", last)
	}
}
