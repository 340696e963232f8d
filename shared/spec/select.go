package spec

import (
	"slices"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/expr/suggest"
)

// Select checks the steps that a run is to leave out (skip) or is to have alone
// (only): each must exist, and none may be in both. Errors are of kind
// ci.Invalid with the field "only" or "skip".
func Select(w *ci.Workflow, only, skip []string) error {
	ids := make([]string, len(w.Steps))
	for i := range w.Steps {
		ids[i] = w.Steps[i].ID
	}
	for _, list := range []struct {
		field string
		ids   []string
	}{{"only", only}, {"skip", skip}} {
		for _, id := range list.ids {
			if slices.Contains(ids, id) {
				continue
			}
			hint := suggest.Hint(id, ids)
			if hint != "" {
				hint = ": " + hint
			}
			return ci.FieldErrorf(ci.Invalid, list.field, "cannot run %s: no step has the id %s%s", w.Name, short(id), hint)
		}
	}
	for _, id := range skip {
		if slices.Contains(only, id) {
			return ci.FieldErrorf(ci.Invalid, "skip", "cannot run %s: step %s is both in only and in skip", w.Name, id)
		}
	}
	return nil
}
