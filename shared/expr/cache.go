package expr

import (
	"sync"

	"github.com/slipway-ci/slipway/shared/ci"
)

// programs and envs remember what pure functions returned: they change how
// fast an answer comes, never which.
var (
	programs = &memo[cacheKey, *compiledExpr]{limit: 2048}
	envs     = &memo[*ci.Workflow, *Env]{limit: 16}
)

type cacheKey struct {
	kind   Kind
	src    string
	digest string
}

// memo is a bounded map in two generations: when the young one is full it
// becomes the old one, and what nobody asked for since is forgotten. It holds
// at most twice limit entries.
type memo[K comparable, V any] struct {
	limit int

	mu         sync.Mutex
	young, old map[K]V
}

// get returns the value of key, or the zero value.
func (m *memo[K, V]) get(key K) V {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v, ok := m.young[key]; ok {
		return v
	}
	v, ok := m.old[key]
	if ok {
		m.add(key, v)
	}
	return v
}

func (m *memo[K, V]) put(key K, v V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.add(key, v)
}

func (m *memo[K, V]) add(key K, v V) {
	if len(m.young) >= m.limit || m.young == nil {
		m.old, m.young = m.young, make(map[K]V)
	}
	m.young[key] = v
}

// envOf returns the environment of a workflow, which never changes.
func envOf(w *ci.Workflow) *Env {
	if e := envs.get(w); e != nil {
		return e
	}
	e := NewEnv(w)
	envs.put(w, e)
	return e
}
