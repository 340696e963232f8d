package spec

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"go.yaml.in/yaml/v4"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/expr"
)

const defaultGrace = 10 * time.Second

// signals that a step may ask to be canceled with.
var signals = words(`SIGTERM SIGINT SIGQUIT SIGHUP SIGUSR1 SIGUSR2 SIGKILL`)

// stepDefaults reads what every step starts from.
func (p *parser) stepDefaults(n *yaml.Node) {
	m := p.mapping(n, defaultsKeys)
	if m == nil {
		return
	}
	p.common(m, &p.defaults, noStep)
	if p.defaults.Executor == ci.ExecutorProcess && m.has("image") {
		p.errorf(m.keys["image"], codeValue, "remove the image or the executor", "a step with an image never runs as a process")
	}
}

// common reads the keys that a step and defaults share, over what s holds.
// tags, resources and cancel are merged key by key.
func (p *parser) common(m *mapping, s *ci.Step, index int) {
	guarded := use{kind: expr.Text, step: index, guarded: true}
	if v := m.at("image"); v != nil {
		s.Image = p.image(v, guarded)
	}
	if v := m.at("pull"); v != nil {
		if w, ok := p.oneOf(v, "pull", string(ci.PullIfNotPresent), string(ci.PullAlways), string(ci.PullNever)); ok {
			s.Pull = ci.PullPolicy(w)
		}
	}
	if v := m.at("executor"); v != nil {
		p.executor(v, s, guarded)
	}
	if v := m.at("shell"); v != nil {
		p.shell(v, s)
	}
	if v := m.at("queue"); v != nil {
		if q, ok := p.template(v, "queue", guarded); ok {
			s.Queue = p.name(v, "queue", q)
		}
	}
	if v := m.at("tags"); v != nil {
		p.tags(v, s, guarded)
	}
	if v := m.at("resources"); v != nil {
		p.resources(v, &s.Resources)
	}
	if v := m.at("timeout"); v != nil {
		s.Timeout, _ = p.duration(v, "timeout")
	}
	if v := m.at("queue_timeout"); v != nil {
		s.QueueTimeout, _ = p.duration(v, "queue_timeout")
	}
	if v := m.at("cancel"); v != nil {
		p.cancel(v, s)
	}
	if v := m.at("retry"); v != nil {
		s.Retry = p.retry(v)
	}
	if v := m.at("docker"); v != nil {
		p.docker(v, s)
	}
	if v := m.at("completion"); v != nil {
		if w, ok := p.oneOf(v, "completion", string(ci.CompletionAuto), string(ci.CompletionExit), string(ci.CompletionReport)); ok {
			s.Completion = ci.Completion(w)
		}
	}
	if v := m.at("s3"); v != nil {
		s.S3, _ = p.boolean(v, "s3")
	}
}

// image reads an image name; it checks those that no template completes.
func (p *parser) image(n *yaml.Node, u use) string {
	s, ok := p.template(n, "image", u)
	if !ok {
		return ""
	}
	if strings.TrimSpace(s) == "" {
		p.errorf(n, codeValue, "", "image is empty")
		return ""
	}
	if expr.HasTemplate(s) {
		if strings.HasSuffix(s, ":latest") {
			p.warnf(n, codeLatest, "name a version", "%s may be another image tomorrow", s)
		}
		return s
	}
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		p.errorf(n, codeValue, "as in golang:1.26 or registry.example.com/team/image:tag", "%s is no image: %s", short(s), err)
		return s
	}
	tagged, ok := named.(reference.Tagged)
	if _, digest := named.(reference.Digested); !digest && (!ok || tagged.Tag() == "latest") {
		p.warnf(n, codeLatest, "name a version", "%s may be another image tomorrow", s)
	}
	return s
}

func (p *parser) executor(n *yaml.Node, s *ci.Step, u use) {
	e, ok := p.template(n, "executor", u)
	if !ok {
		return
	}
	if expr.HasTemplate(e) {
		s.Executor = e
		return
	}
	if e, ok = p.oneOf(n, "executor", ci.ExecutorDocker, ci.ExecutorProcess); ok {
		s.Executor = e
	}
}

func (p *parser) shell(n *yaml.Node, s *ci.Step) {
	words := p.texts(n, "shell", p.text)
	if n.Kind == yaml.ScalarNode && len(words) == 1 {
		words = strings.Fields(words[0])
	}
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		p.errorf(n, codeValue, "", "shell is empty")
	}
	if len(words) > 0 {
		s.Shell = words
	}
}

// name checks a word that names a queue or a tag.
func (p *parser) name(n *yaml.Node, what, s string) string {
	if s == "" || !expr.HasTemplate(s) && strings.ContainsAny(s, " \t\r\n") {
		p.errorf(n, codeValue, "", "%s must be one word, not %q", what, short(s))
	}
	return s
}

func (p *parser) tags(n *yaml.Node, s *ci.Step, u use) {
	m := p.pairs(n, "tags")
	if m == nil {
		return
	}
	s.Tags = maps.Clone(s.Tags)
	if s.Tags == nil {
		s.Tags = make(map[string]string, len(m.list))
	}
	for _, k := range m.list {
		if v, ok := p.template(m.vals[k], "tag "+short(k), u); ok {
			p.name(m.keys[k], "a tag", k)
			s.Tags[k] = p.name(m.vals[k], "tag "+short(k), v)
		}
	}
}

func (p *parser) resources(n *yaml.Node, r *ci.Resources) {
	m := p.mapping(n, resourcesKeys)
	if v := m.at("cpu"); v != nil {
		r.MilliCPU, _ = p.cpu(v, "cpu")
	}
	if v := m.at("memory"); v != nil {
		r.Memory, _ = p.size(v, "memory")
	}
	if v := m.at("disk"); v != nil {
		r.Disk, _ = p.size(v, "disk")
	}
	if v := m.at("pids"); v != nil {
		pids, _ := p.integer(v, "pids", 1, 1<<22)
		r.Pids = int64(pids)
	}
}

func (p *parser) cancel(n *yaml.Node, s *ci.Step) {
	m := p.mapping(n, cancelKeys)
	if v := m.at("signal"); v != nil {
		if w, ok := p.text(v, "signal"); ok {
			if name := "SIG" + strings.TrimPrefix(strings.ToUpper(w), "SIG"); slices.Contains(signals, name) {
				s.CancelSignal = name
			} else {
				p.errorf(v, codeValue, p.suggestion(name, signals), "no signal %s", short(w))
			}
		}
	}
	if v := m.at("grace"); v != nil {
		s.CancelGrace, _ = p.duration(v, "grace")
	}
}

func (p *parser) docker(n *yaml.Node, s *ci.Step) {
	if n.Kind == yaml.ScalarNode && n.Value == "host" {
		p.errorf(n, codeLater, "docker: raw mounts the engine's own socket, for tenants that may", "docker: host is not available yet")
		return
	}
	if w, ok := p.oneOf(n, "docker", string(ci.DockerNone), string(ci.DockerRaw)); ok {
		s.Docker = ci.DockerMode(w)
	}
}
