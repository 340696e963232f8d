package state

// makers gives a new, empty op for each name. Names are on disk for ever: rows
// are only ever added, and testdata/log.golden holds one entry of each.
var makers = map[string]func() Op{
	"cluster.init":     func() Op { return new(InitCluster) },
	"tick":             func() Op { return new(Tick) },
	"tenant.create":    func() Op { return new(CreateTenant) },
	"token.create":     func() Op { return new(CreateToken) },
	"token.revoke":     func() Op { return new(RevokeToken) },
	"agent.register":   func() Op { return new(RegisterAgent) },
	"agent.checkpoint": func() Op { return new(CheckpointAgents) },
	"agent.silent":     func() Op { return new(AgentSilent) },
	"agent.heard":      func() Op { return new(AgentHeard) },
	"workflow.put":     func() Op { return new(PutWorkflow) },
	"run.create":       func() Op { return new(CreateRun) },
	"run.cancel":       func() Op { return new(CancelRun) },
	"run.retry":        func() Op { return new(RetryRun) },
	"run.set":          func() Op { return new(SetRun) },
	"step.skip":        func() Op { return new(SkipStep) },
	"step.cancel":      func() Op { return new(CancelStep) },
	"step.end":         func() Op { return new(EndStep) },
	"attempt.queue":    func() Op { return new(QueueAttempt) },
	"attempt.assign":   func() Op { return new(AssignAttempt) },
	"attempt.accept":   func() Op { return new(AcceptAttempt) },
	"attempt.progress": func() Op { return new(Progress) },
	"attempt.report":   func() Op { return new(ReportAttempt) },
	"attempt.want":     func() Op { return new(WantAttempt) },
	"attempt.lose":     func() Op { return new(LoseAttempt) },
	"attempt.unaccept": func() Op { return new(UnacceptAttempt) },
}

func newOp(name string) Op {
	if mk := makers[name]; mk != nil {
		return mk()
	}
	return nil
}

// Name returns "cluster.init".
func (*InitCluster) Name() string { return "cluster.init" }

// Name returns "tick".
func (*Tick) Name() string { return "tick" }

// Name returns "tenant.create".
func (*CreateTenant) Name() string { return "tenant.create" }

// Name returns "token.create".
func (*CreateToken) Name() string { return "token.create" }

// Name returns "token.revoke".
func (*RevokeToken) Name() string { return "token.revoke" }

// Name returns "agent.register".
func (*RegisterAgent) Name() string { return "agent.register" }

// Name returns "agent.checkpoint".
func (*CheckpointAgents) Name() string { return "agent.checkpoint" }

// Name returns "agent.silent".
func (*AgentSilent) Name() string { return "agent.silent" }

// Name returns "agent.heard".
func (*AgentHeard) Name() string { return "agent.heard" }

// Name returns "workflow.put".
func (*PutWorkflow) Name() string { return "workflow.put" }

// Name returns "run.create".
func (*CreateRun) Name() string { return "run.create" }

// Name returns "run.cancel".
func (*CancelRun) Name() string { return "run.cancel" }

// Name returns "run.retry".
func (*RetryRun) Name() string { return "run.retry" }

// Name returns "run.set".
func (*SetRun) Name() string { return "run.set" }

// Name returns "step.skip".
func (*SkipStep) Name() string { return "step.skip" }

// Name returns "step.cancel".
func (*CancelStep) Name() string { return "step.cancel" }

// Name returns "step.end".
func (*EndStep) Name() string { return "step.end" }

// Name returns "attempt.queue".
func (*QueueAttempt) Name() string { return "attempt.queue" }

// Name returns "attempt.assign".
func (*AssignAttempt) Name() string { return "attempt.assign" }

// Name returns "attempt.accept".
func (*AcceptAttempt) Name() string { return "attempt.accept" }

// Name returns "attempt.progress".
func (*Progress) Name() string { return "attempt.progress" }

// Name returns "attempt.report".
func (*ReportAttempt) Name() string { return "attempt.report" }

// Name returns "attempt.want".
func (*WantAttempt) Name() string { return "attempt.want" }

// Name returns "attempt.lose".
func (*LoseAttempt) Name() string { return "attempt.lose" }

// Name returns "attempt.unaccept".
func (*UnacceptAttempt) Name() string { return "attempt.unaccept" }
