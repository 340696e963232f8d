package expr

import (
	"maps"
	"slices"

	"github.com/slipway-ci/slipway/shared/ci"
)

// RenderStep returns a copy of step s of run with every template rendered. Env
// is the workflow's, below the step's, below what the retry of the present
// generation sets. Cache keys may still hold hash tokens (ResolveHashes). A
// step that turns out to run as a process has no image; one that turns out to
// have neither executor nor image is refused. Errors are of kind ci.Invalid.
func RenderStep(run *ci.Run, s *ci.Step) (ci.Step, error) {
	r := renderer{scope: ForRun(run, s.ID)}
	out := *s
	out.Image = r.text("image", s.Image)
	out.Executor = r.text("executor", s.Executor)
	out.Queue = r.text("queue", s.Queue)
	out.Tags = r.textMap("tags", s.Tags)
	out.Env = r.env(run, s)
	out.Artifacts = slices.Clone(s.Artifacts)
	for i := range out.Artifacts {
		a := &out.Artifacts[i]
		a.Name = r.text("artifacts", a.Name)
		a.Paths = r.list("artifacts", a.Paths)
	}
	out.Caches = slices.Clone(s.Caches)
	for i := range out.Caches {
		c := &out.Caches[i]
		c.Key = r.render(CacheKey, "cache", c.Key)
		c.Restore = slices.Clone(c.Restore)
		for j := range c.Restore {
			c.Restore[j] = r.render(CacheKey, "cache", c.Restore[j])
		}
	}
	if r.err == nil {
		r.err = settleExecutor(&out)
	}
	if r.err != nil {
		return ci.Step{}, r.err
	}
	return out, nil
}

// settleExecutor applies the rule that an image counts only under docker.
func settleExecutor(s *ci.Step) error {
	switch s.Executor {
	case ci.ExecutorDocker:
		if s.Image == "" {
			return ci.FieldErrorf(ci.Invalid, "image", "step %s has no image: the docker executor needs one", s.ID)
		}
	case ci.ExecutorProcess:
		s.Image = ""
		if s.Run == "" && len(s.Command) == 0 {
			return ci.FieldErrorf(ci.Invalid, "run", "step %s has nothing to run: the process executor needs run or command", s.ID)
		}
	default:
		return ci.FieldErrorf(ci.Invalid, "executor", "step %s has executor %q: it must be docker or process", s.ID, s.Executor)
	}
	return nil
}

// renderer keeps the first error, so that rendering reads as a list of fields.
type renderer struct {
	scope Scope
	err   error
}

func (r *renderer) render(kind Kind, field, src string) string {
	if r.err != nil {
		return ""
	}
	text, err := r.scope.interpolate(kind, src)
	if err != nil {
		r.err = ci.FieldErrorf(ci.Invalid, field, "cannot start step %s: %s: %w", r.scope.step, field, err)
	}
	return text
}

func (r *renderer) text(field, src string) string { return r.render(Text, field, src) }

func (r *renderer) list(field string, src []string) []string {
	out := slices.Clone(src)
	for i := range out {
		out[i] = r.text(field, out[i])
	}
	return out
}

// textMap renders in the order of keys, so that the first error is always the same.
func (r *renderer) textMap(field string, src map[string]string) map[string]string {
	if src == nil {
		return nil
	}
	out := make(map[string]string, len(src))
	for _, k := range slices.Sorted(maps.Keys(src)) {
		out[k] = r.text(field+"."+k, src[k])
	}
	return out
}

// env merges the three layers. What a retry sets is taken as it stands: it
// comes from a person at a prompt, not from the file.
func (r *renderer) env(run *ci.Run, s *ci.Step) map[string]string {
	merged := make(map[string]string)
	if run.Workflow != nil {
		maps.Copy(merged, run.Workflow.Env)
	}
	maps.Copy(merged, s.Env)
	var override map[string]string
	if sr := run.Step(s.ID); sr != nil {
		override = sr.Override.Env
	}
	for k := range override {
		delete(merged, k) // not rendered: its error must not matter
	}
	merged = r.textMap("env", merged)
	maps.Copy(merged, override)
	return merged
}
