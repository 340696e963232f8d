package spec

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/slipway-ci/slipway/shared/ci"
)

// The bounds of what a workflow's needs may hold once they are written out.
const (
	// maxSpelledOut is up to where a step without needs lists every step above
	// it, so that it waits for all of them even when a person skips one. Beyond
	// it lists only those that no other step above waits for.
	maxSpelledOut = 10_000
	maxNeeds      = 100_000
)

// graph is who waits for whom. Steps are nodes 0..n-1. Node n+i is the barrier
// behind step i: it waits for step i and for the barrier before. A step without
// needs waits for the barrier above it, so that a series of n steps has 2n
// edges, not n*n/2.
type graph struct {
	steps []ci.Step
	edges [][]int

	seen   []int // by waitsFor: the step, from 1, whose walk came by last
	walked int
}

func (g *graph) step(i int) bool { return i < len(g.steps) }

// graph checks the ids and needs of all steps and makes every need explicit.
func (p *parser) graph() {
	index := p.ids()
	g := &graph{steps: p.w.Steps, edges: make([][]int, 2*len(p.w.Steps))}
	n := len(g.steps)
	for i := range g.steps {
		s := &g.steps[i]
		first := i == 0 || g.steps[i-1].Finally != s.Finally
		g.edges[n+i] = append(g.edges[n+i], i)
		if !first {
			g.edges[n+i] = append(g.edges[n+i], n+i-1)
		}
		switch {
		case p.steps[i].has:
			s.Needs = p.checkNeeds(i, index)
			for _, id := range s.Needs {
				g.edges[i] = append(g.edges[i], index[id])
			}
		case !first:
			g.edges[i] = append(g.edges[i], n+i-1)
		}
	}
	p.cycles(g)
	p.spellOut()
	p.order = g
}

// ids returns the place of every id; each must be there once.
func (p *parser) ids() map[string]int {
	index := make(map[string]int, len(p.w.Steps))
	for i := range p.w.Steps {
		id := p.w.Steps[i].ID
		first, ok := index[id]
		if !ok {
			index[id] = i
			continue
		}
		m := p.steps[i].m
		at, hint := m.node, "give it an id"
		if v := m.at("id"); v != nil {
			at, hint = v, ""
		} else if v := m.at("name"); v != nil {
			at = v
		}
		p.errorf(at, codeDuplicate, hint, "the step in line %d has the id %s already", p.w.Steps[first].Line, short(id))
	}
	return index
}

// checkNeeds returns the needs of step i that make sense.
func (p *parser) checkNeeds(i int, index map[string]int) []string {
	s, sn := &p.w.Steps[i], p.steps[i]
	out := make([]string, 0, len(s.Needs))
	for _, id := range s.Needs {
		at := sn.needs[id]
		j, ok := index[id]
		switch {
		case !ok:
			p.errorf(at, codeUnknownID, p.suggestion(id, p.stepIDs()), "no step has the id %s", short(id))
		case j == i:
			p.errorf(at, codeCycle, "", "step %s needs itself", id)
		case s.Finally && !p.w.Steps[j].Finally:
			p.errorf(at, codeValue, "remove it", "a step of finally waits for all steps anyway, so for %s", id)
		case !s.Finally && p.w.Steps[j].Finally:
			p.errorf(at, codeValue, "", "step %s of finally runs after all others: nothing can need it", id)
		default:
			out = append(out, id)
		}
	}
	return out
}

func (p *parser) stepIDs() []string {
	if p.allIDs == nil {
		for i := range p.w.Steps {
			p.allIDs = append(p.allIDs, p.w.Steps[i].ID)
		}
	}
	return p.allIDs
}

// cycles reports every cycle, a step at most once.
func (p *parser) cycles(g *graph) {
	const (
		fresh = iota
		open
		done
	)
	state := make([]int, len(g.edges))
	reported := map[int]bool{}
	var stack []int
	var visit func(i int)
	visit = func(i int) {
		state[i] = open
		stack = append(stack, i)
		for _, j := range g.edges[i] {
			switch state[j] {
			case fresh:
				visit(j)
			case open:
				p.cycle(g, stack[slices.Index(stack, j):], reported)
			}
		}
		stack = stack[:len(stack)-1]
		state[i] = done
	}
	for i := range g.steps {
		if state[i] == fresh {
			visit(i)
		}
	}
}

func (p *parser) cycle(g *graph, loop []int, reported map[int]bool) {
	var ids []string
	var at *yaml.Node
	hint := ""
	for _, i := range loop {
		if !g.step(i) {
			continue
		}
		if reported[i] {
			return
		}
		ids = append(ids, g.steps[i].ID)
		if !p.steps[i].has {
			hint = g.steps[i].ID + " has no needs, so it waits for every step above it"
		} else if at == nil {
			at = p.steps[i].m.keys["needs"]
		}
	}
	for _, i := range loop {
		reported[i] = true
	}
	if at == nil || len(ids) == 0 {
		return // cannot be: steps without needs only wait for those above
	}
	// Begin with the first by name, so that the text does not depend on the walk.
	k := slices.Index(ids, slices.Min(ids))
	ids = append(ids[k:], ids[:k]...)
	if len(ids) > 8 {
		ids = append(ids[:8], "...")
	}
	p.errorf(at, codeCycle, hint, "these steps wait for each other: %s", strings.Join(append(ids, ids[0]), " -> "))
}

// spellOut turns "every step above" into ids.
func (p *parser) spellOut() {
	total, above := 0, 0
	for i := range p.w.Steps {
		if i > 0 && p.w.Steps[i].Finally != p.w.Steps[i-1].Finally {
			above = 0
		}
		if !p.steps[i].has {
			total += above
		}
		above++
	}
	all := total <= maxSpelledOut
	total = 0
	var group, leaves []string // steps above; those nobody above waits for
	covered := map[string]bool{}
	for i := range p.w.Steps {
		s := &p.w.Steps[i]
		if i > 0 && s.Finally != p.w.Steps[i-1].Finally {
			group, leaves = nil, nil
		}
		switch {
		case p.steps[i].has:
		case all:
			s.Needs = slices.Clone(group)
		default:
			s.Needs = slices.Clone(leaves)
		}
		if total += len(s.Needs); total > maxNeeds {
			p.errorf(p.steps[i].node, codeLimit, "give steps needs of their own", "the steps wait for each other in more than %d ways", maxNeeds)
			return
		}
		if s.Skip == "" { // one that is left out holds nobody up
			for _, id := range s.Needs {
				covered[id] = true
			}
			leaves = slices.DeleteFunc(leaves, func(id string) bool { return covered[id] })
		}
		group = append(group, s.ID)
		if !covered[s.ID] {
			leaves = append(leaves, s.ID)
		}
	}
}

// waitsFor reports whether step j has ended, one way or another, when step i
// starts: i waits for it, or i is a step of finally and j is none. Questions
// about one i in a row cost one walk.
func (g *graph) waitsFor(i, j int) bool {
	if g.steps[i].Finally && !g.steps[j].Finally {
		return true
	}
	stamp := i + 1
	if g.seen == nil {
		g.seen = make([]int, len(g.edges))
	}
	if g.walked != stamp {
		g.walked = stamp
		todo := slices.Clone(g.edges[i])
		for len(todo) > 0 {
			k := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			if g.seen[k] != stamp {
				g.seen[k] = stamp
				todo = append(todo, g.edges[k]...)
			}
		}
	}
	return g.seen[j] == stamp
}
