// Package spec reads workflow files: bytes to a validated ci.Workflow, or every
// problem of the file at once, each with its place, an excerpt and what to do.
//
// It is pure: the same bytes give the same answer, wherever and whenever. Any
// input is bounded in time and memory by the limits below, whatever it holds.
package spec

import (
	"path"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/slipway-ci/slipway/shared/ci"
)

// The limits of a workflow file.
const (
	MaxBytes       = 1 << 20
	MaxDepth       = 32     // levels of nested lists and mappings
	MaxNodes       = 50_000 // values, counted with aliases written out
	MaxSteps       = 2_000  // those of finally included
	MaxParams      = 200
	MaxExpressions = 2_000     // different ones
	MaxProblems    = 100       // listed; the rest is counted
	MaxEnv         = 256 << 10 // bytes of the workflow's environment, and of a step's
)

// Options say how to read a file.
type Options struct {
	// File names the file in problems; without its folder and extension it is
	// the name of a workflow that does not give one.
	File string
}

// Parse reads a workflow file. The workflow is nil exactly when a problem is an
// error; warnings come with a workflow. It never panics.
func Parse(src []byte, opt Options) (w *ci.Workflow, problems Problems) {
	p := newParser(src, opt)
	defer func() {
		if r := recover(); r != nil {
			p.errorAt(1, 1, codeInternal, "", "this file cannot be read: %v", r)
			w, problems = nil, p.finish()
		}
	}()
	if root := p.load(); root != nil {
		p.workflow(root)
	}
	problems = p.finish()
	if problems.failed() {
		return nil, problems
	}
	return p.w, problems
}

// parser holds what is known while one file is read.
type parser struct {
	source   source
	found    []Problem
	w        *ci.Workflow
	defaults ci.Step     // what every step starts from
	steps    []*stepNode // beside w.Steps
	uses     []use       // of expressions, checked when all names are known
	allIDs   []string    // of the steps, for suggestions
	order    *graph
	budget   int // comparisons left for "did you mean"
}

func newParser(src []byte, opt Options) *parser {
	return &parser{
		source: newSource(opt.File, src),
		w:      &ci.Workflow{Version: 1, Name: defaultName(opt.File), Dispatch: true},
		budget: 300_000,
	}
}

// defaultName is the name of a workflow whose file does not give one.
func defaultName(file string) string {
	base := path.Base(strings.ReplaceAll(file, `\`, "/"))
	base = strings.TrimSuffix(base, path.Ext(base))
	if base == "" || base == "." || base == "/" {
		return "workflow"
	}
	return base
}

// stepNode is where the parts of a step stand in the file.
type stepNode struct {
	node  *yaml.Node
	m     *mapping
	needs map[string]*yaml.Node // each id of needs
	has   bool                  // needs was written
}
