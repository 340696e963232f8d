package api

import (
	"context"
	"fmt"
	"strings"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
)

// sees reports whether the caller may know of a tenant's things. What they may
// not see does not exist for them: every no is the same as for a wrong name.
func (c Caller) sees(t ci.TenantID) bool { return c.Tenant == "" || c.Tenant == t }

// find returns the run that a caller names: its id, or a unique beginning or
// end of it.
func (a *API) find(ctx context.Context, v *state.View, name string) (*ci.Run, error) {
	name = strings.ToLower(strings.TrimSpace(name))
	if name == "" {
		return nil, ci.FieldErrorf(ci.Invalid, "run", "the call names no run")
	}
	who := a.cfg.Caller(ctx)
	var found []*ci.Run
	for _, id := range v.FindRun(name) {
		if r := v.Run(id); r != nil && who.sees(r.Tenant) {
			found = append(found, r)
		}
	}
	switch len(found) {
	case 0:
		return nil, ci.FieldErrorf(ci.NotFound, "run", "there is no run %q; `slipway runs ls` lists them", name)
	case 1:
		return found[0], nil
	}
	ids := make([]string, len(found))
	for i, r := range found {
		ids[i] = string(r.ID)
	}
	return nil, ci.FieldErrorf(ci.Invalid, "run", "%q may be any of %s: give more of the id", name, strings.Join(ids, ", "))
}

// maxNamed bounds how many names a message lists.
const maxNamed = 20

// findStep returns a step of a run by its id.
func findStep(r *ci.Run, id string) (*ci.StepRun, error) {
	if s := r.Step(id); s != nil {
		return s, nil
	}
	ids := make([]string, 0, len(r.Steps))
	for _, s := range r.Steps {
		ids = append(ids, s.ID)
	}
	if id == "" {
		return nil, ci.FieldErrorf(ci.Invalid, "step", "the call names no step; run %s has %s", r.ID, names(ids))
	}
	return nil, ci.FieldErrorf(ci.NotFound, "step", "run %s has no step %q; it has %s", r.ID, id, names(ids))
}

// findAttempt returns the attempt with a number, for 0 the latest, and nil when
// there is none yet.
func findAttempt(r *ci.Run, s *ci.StepRun, number int) (*ci.Attempt, error) {
	if number == 0 {
		if n := len(s.Attempts); n > 0 {
			return s.Attempts[n-1], nil
		}
		return nil, nil
	}
	for _, at := range s.Attempts {
		if at.Number == number {
			return at, nil
		}
	}
	return nil, ci.FieldErrorf(ci.NotFound, "attempt", "step %s of run %s has no attempt %d; it has had %d", s.ID, r.ID, number, len(s.Attempts))
}

func names(all []string) string {
	switch n := len(all); {
	case n == 0:
		return "none"
	case n > maxNamed:
		return strings.Join(all[:maxNamed], ", ") + fmt.Sprintf(" and %d more", n-maxNamed)
	default:
		return strings.Join(all, ", ")
	}
}
