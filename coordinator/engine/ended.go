package engine

import (
	"slices"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
)

// ended handles a step whose last attempt is decided: the step is over, or is
// tried again.
//
//	SUCCEEDED ---------------------------------------------> passed
//	UNACCEPTED ------------------------- free -------------> queued
//	REJECTED --------------------------- free, 3 times ----> queued, then failed
//	FAILED, TIMED_OUT, LOST, CANCELED -- as retry says ----> queued
//	FAILED -> failed | soft_failed   TIMED_OUT -> timed_out   LOST -> lost
func (p *pass) ended(i int, a *ci.Attempt) bool {
	s, def := p.run.Steps[i], p.def(i)
	outcome := a.Decided()
	if outcome == ci.AttemptSucceeded {
		return p.end(i, ci.StepPassed, ci.ReasonNone, a.Message, a.ID)
	}
	if s.SkipNote != "" {
		return p.end(i, ci.StepSkipped, ci.ReasonSkippedByUser, s.SkipNote, a.ID)
	}
	if reason, ok := p.stopping(i, a); ok {
		return p.stopped(i, a, reason)
	}
	if re := plan(def, s); re.again {
		return p.queue(i, re)
	}
	return p.endAs(i, a, failure(a).reason)
}

// stopping returns why nothing may be tried again.
func (p *pass) stopping(i int, a *ci.Attempt) (ci.Reason, bool) {
	if reason, ok := p.canceling(i); ok {
		return reason, true
	}
	if a.Want != ci.WantRun {
		return a.WantReason, true
	}
	if a.State == ci.AttemptCanceled && a.Agent == "" {
		return a.Reason, true // given up in the queue
	}
	if p.failedFast(i) {
		return ci.ReasonFailFast, true
	}
	return ci.ReasonNone, false
}

// stopped ends a step whose attempt ended while it was to stop. A failure or a
// timeout of its own stays one.
func (p *pass) stopped(i int, a *ci.Attempt, reason ci.Reason) bool {
	switch outcome := a.Decided(); {
	case a.Want == ci.WantTimeout && a.AcceptedTime > 0 && outcome != ci.AttemptFailed:
		return p.end(i, ci.StepTimedOut, ci.ReasonTimeout, a.Message, a.ID)
	case outcome == ci.AttemptFailed, outcome == ci.AttemptTimedOut,
		outcome == ci.AttemptLost && a.Want == ci.WantRun && reason == ci.ReasonFailFast:
		return p.endAs(i, a, failure(a).reason)
	default:
		return p.end(i, ci.StepCanceled, reason, a.Message, a.ID)
	}
}

// endAs ends a step as its attempt ended.
func (p *pass) endAs(i int, a *ci.Attempt, reason ci.Reason) bool {
	outcome := a.Decided()
	if outcome == ci.AttemptCanceled {
		return p.end(i, ci.StepCanceled, reason, a.Message, a.ID)
	}
	st := ci.StepFailed
	switch outcome {
	case ci.AttemptTimedOut:
		st = ci.StepTimedOut
	case ci.AttemptLost:
		st = ci.StepLost
	default: // failed, or rejected for good
	}
	if p.def(i).SoftFail.Covers(a.ExitCode, a.Exited && outcome == ci.AttemptFailed) {
		st = ci.StepSoftFailed
	}
	return p.end(i, st, reason, a.Message, a.ID)
}

// fault is what a retry rule looks at.
type fault struct {
	reason ci.Reason
	code   int
	exited bool
}

// failure names why an attempt did not succeed.
func failure(a *ci.Attempt) fault {
	f := fault{reason: a.Reason, code: a.ExitCode, exited: a.Exited && a.Decided() == ci.AttemptFailed}
	if f.reason != ci.ReasonNone {
		return f
	}
	switch a.Decided() {
	case ci.AttemptTimedOut:
		f.reason = ci.ReasonTimeout
	case ci.AttemptLost, ci.AttemptUnaccepted:
		f.reason = ci.ReasonAgentLost
	case ci.AttemptRejected:
		f.reason = ci.ReasonInfra
	case ci.AttemptCanceled:
		f.reason = ci.ReasonCanceledUser
	default:
		f.reason = ci.ReasonExitCode
	}
	return f
}

// maxRejected is how often an attempt that never began may be tried again
// without a word in the file.
const maxRejected = 3

// rejectedBackoff is the wait before these: long enough for a registry to come
// back, short enough for a wrong image name to be told soon.
var rejectedBackoff = ci.Backoff{Initial: time.Second, Factor: 2}

// retry is what becomes of a step after its last attempt.
type retry struct {
	again bool
	after time.Duration
	other bool // on another agent, when there is one
	cpu   int64
	mem   int64
}

// resources returns what the next attempt asks for.
func (r retry) resources(base ci.Resources) ci.Resources {
	base.MilliCPU, base.Memory = max(base.MilliCPU, r.cpu), max(base.Memory, r.mem)
	return base
}

// plan goes through the attempts of a step's present generation and says
// whether its rules allow one more. Each attempt uses up the first rule that
// names its failure and has something left.
func plan(def *ci.Step, s *ci.StepRun) retry {
	var (
		re       retry
		rejected int
		used     = make([]int, len(def.Retry))
	)
	for _, a := range s.Attempts {
		if a.Generation != s.Generation {
			continue
		}
		re.again, re.after, re.other = false, 0, false
		f := failure(a)
		switch a.Decided() {
		case ci.AttemptUnaccepted:
			re.again, re.other = true, true
		case ci.AttemptRejected:
			// An empty list means no retry at all, not even of these.
			if len(def.Retry) > 0 && rejected < maxRejected {
				re.again, re.other, re.after = true, true, rejectedBackoff.After(rejected)
				rejected++
			}
		default:
			re.apply(def.Retry, used, f)
		}
	}
	return re
}

func (r *retry) apply(rules []ci.RetryRule, used []int, f fault) {
	for k := range rules {
		rule := &rules[k]
		if !names(rule, f) || used[k] >= rule.Limit {
			continue
		}
		r.again, r.after = true, rule.Backoff.After(used[k])
		r.other = rule.Different || f.reason == ci.ReasonAgentLost || f.reason == ci.ReasonAgentShutdown
		r.mem, r.cpu = max(r.mem, rule.Memory), max(r.cpu, rule.MilliCPU)
		used[k]++
		return
	}
}

// names reports whether a rule is about the failure.
func names(rule *ci.RetryRule, f fault) bool {
	if slices.Contains(rule.On, f.reason) {
		return true
	}
	return f.exited && slices.Contains(rule.ExitCodes, f.code)
}
