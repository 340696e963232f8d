package ci

// ParseKind returns the kind that String renders as s; false for an unknown one.
func ParseKind(s string) (Kind, bool) {
	for k, name := range kindNames {
		if name == s {
			return Kind(k), true
		}
	}
	return Internal, false
}

// ParseAttemptState returns the state that String renders as s; false for an
// unknown one.
func ParseAttemptState(s string) (AttemptState, bool) {
	for _, a := range AttemptStates {
		if a.String() == s {
			return a, true
		}
	}
	return 0, false
}

// ParseWant returns the want that String renders as s; false for an unknown one.
func ParseWant(s string) (Want, bool) {
	for _, w := range []Want{WantRun, WantCancel, WantTimeout} {
		if w.String() == s {
			return w, true
		}
	}
	return WantRun, false
}
