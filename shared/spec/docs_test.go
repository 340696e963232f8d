package spec

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/slipway-ci/slipway/shared/ci"
)

// The reference says the truth: its examples are workflows without a problem,
// and it names every key, every refusal and every reason.
func TestReference(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../docs/workflow.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(raw)
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(doc, -1)
	if len(blocks) < 4 {
		t.Errorf("%d examples", len(blocks))
	}
	for i, b := range blocks {
		w, problems := Parse([]byte(b[1]), Options{File: "workflow.md"})
		if w == nil || i > 0 && len(problems) > 0 { // the smallest file has no timeout
			t.Errorf("example %d:\n%s\n%v", i+1, b[1], problems)
		}
	}
	named := func(what, word string) {
		if !strings.Contains(doc, "`"+word+"`") {
			t.Errorf("%s `%s` is not mentioned", what, word)
		}
	}
	for _, set := range []keySet{
		workflowKeys, onKeys, paramKeys, stepKeys, defaultsKeys, resourcesKeys, cancelKeys, retryKeys,
		retryResKeys, backoffKeys, softFailKeys, artifactKeys, cacheKeys, checkoutKeys,
	} {
		for _, key := range set.known {
			named("the key", key)
		}
		for _, key := range set.later {
			named("the refused key", key)
		}
	}
	for _, r := range ci.Reasons {
		named("the reason", string(r))
	}
}
