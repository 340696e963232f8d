package engine

import (
	"fmt"
	"strings"
	"time"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
)

// settle calls Advance until it wants nothing more, as the loop does.
func (s *stage) settle() {
	for range 1000 {
		ops, next := Advance(s.run(), s.now, func() ci.AttemptID {
			s.ids++
			return ci.AttemptID(fmt.Sprintf("t%03d", s.ids))
		})
		s.next = next
		if len(ops) == 0 {
			return
		}
		// Ops must not lean on each other's order: the log may mix them.
		for i := range ops {
			s.print(ops[i])
		}
		for i := len(ops) - 1; i >= 0; i-- {
			s.must(ops[i])
		}
	}
	s.t.Fatal("the engine does not come to rest")
}

// wait lets time pass; the engine is only asked when it wanted to be.
func (s *stage) wait(d time.Duration) {
	end := s.now.Add(d)
	for s.next > 0 && s.next <= end {
		s.now = s.next
		fmt.Fprintf(&s.out, "at %s\n", time.Duration(s.now))
		s.settle()
	}
	s.now = end
}

func (s *stage) print(op state.Op) {
	switch o := op.(type) {
	case *state.QueueAttempt:
		st := s.run().Step(o.Step)
		fmt.Fprintf(&s.out, "  queue %s #%d", o.Step, len(st.Attempts)+1)
		if o.NotBefore > 0 {
			fmt.Fprintf(&s.out, " after %s", o.NotBefore-s.now)
		}
		if o.PreferOther {
			s.out.WriteString(" on another agent")
		}
		if o.Resources.Memory > 0 || o.Resources.MilliCPU > 0 {
			fmt.Fprintf(&s.out, " with %dm and %d MiB", o.Resources.MilliCPU, o.Resources.Memory>>20)
		}
		s.out.WriteString("\n")
	case *state.EndStep:
		s.line("end", o.Step, string(o.State), string(o.Reason), o.Message)
	case *state.SetRun:
		s.line("run", string(o.State), string(o.Reason), o.Message)
	case *state.WantAttempt:
		s.line("want", o.Step, o.Want.String(), string(o.Reason))
	case *state.CancelRun:
		hard := ""
		if o.Hard {
			hard = "hard"
		}
		s.line("cancel", "run", string(o.Reason), hard)
	case *state.UnacceptAttempt:
		s.line("unaccept", o.Step)
	default:
		s.line(op.Name())
	}
}

func (s *stage) line(words ...string) {
	var w []string
	for i, x := range words {
		if x != "" {
			if i > 2 && strings.Contains(x, " ") {
				x = fmt.Sprintf("(%s)", x)
			}
			w = append(w, x)
		}
	}
	fmt.Fprintf(&s.out, "  %s\n", strings.Join(w, " "))
}

// states prints what changed of what users see.
func (s *stage) states() {
	r := s.run()
	var changed []string
	note := func(id, st string) {
		if s.shown[id] != st {
			s.shown[id] = st
			changed = append(changed, id+":"+st)
		}
	}
	for _, st := range r.Steps {
		note(st.ID, string(st.State))
	}
	text := string(r.State)
	if r.State.Terminal() {
		text += fmt.Sprintf("(exit %d, round %d)", ci.ExitCode(r), r.Round)
	}
	note("run", text)
	if len(changed) > 0 {
		fmt.Fprintf(&s.out, "  = %s\n", strings.Join(changed, " "))
	}
}

func (s *stage) show(step string) {
	r := s.run()
	if step == "" {
		fmt.Fprintf(&s.out, "  %s %s (%s)\n", r.State, r.Reason, r.Message)
		return
	}
	st := r.Step(step)
	fmt.Fprintf(&s.out, "  %s generation %d %s (%s) outputs %v params %v env %v waits for %v\n",
		st.State, st.Generation, st.Reason, st.Message, st.Outputs, st.Override.Params, st.Override.Env, Pending(r)(step))
	for _, a := range st.Attempts {
		fmt.Fprintf(&s.out, "  #%d generation %d %s %s\n", a.Number, a.Generation, a.State, a.Reason)
	}
}
