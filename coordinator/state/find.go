package state

import "github.com/slipway-ci/slipway/shared/ci"

// run returns the run with the given id, or ci.NotFound.
func (x *tx) run(id ci.RunID) (*ci.Run, error) {
	r, ok := x.t.runs.get(id)
	if !ok {
		return nil, ci.Errorf(ci.NotFound, "there is no run %s", id)
	}
	return r, nil
}

// step returns the run and the place of the step in it, or ci.NotFound.
func (x *tx) step(id ci.RunID, step string) (*ci.Run, int, error) {
	r, err := x.run(id)
	if err != nil {
		return nil, 0, err
	}
	i := stepIndex(r, step)
	if i < 0 {
		return nil, 0, ci.FieldErrorf(ci.NotFound, "step", "run %s has no step %q", id, step)
	}
	return r, i, nil
}

// attempt returns the run and the places of step and attempt, or ci.NotFound.
func (x *tx) attempt(id ci.RunID, step string, attempt ci.AttemptID) (r *ci.Run, i, j int, err error) {
	r, i, err = x.step(id, step)
	if err != nil {
		return nil, 0, 0, err
	}
	for j, a := range r.Steps[i].Attempts {
		if a.ID == attempt {
			return r, i, j, nil
		}
	}
	return nil, 0, 0, ci.Errorf(ci.NotFound, "step %s of run %s has no attempt %s", step, id, attempt)
}

func stepIndex(r *ci.Run, step string) int {
	for i, s := range r.Steps {
		if s.ID == step {
			return i
		}
	}
	return -1
}

// maxID bounds identifiers, in bytes.
const maxID = 128

// checkID refuses ids that could not stand in an index key or a path.
func checkID(what, id string) error {
	if id == "" || len(id) > maxID {
		return ci.FieldErrorf(ci.Invalid, what, "cannot take %q for the id of a %s: it must have 1 to %d characters", id, what, maxID)
	}
	for i := range len(id) {
		c := id[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		default:
			return ci.FieldErrorf(ci.Invalid, what, "cannot take %q for the id of a %s: only letters, digits and . _ - may stand in it", id, what)
		}
	}
	return nil
}
