package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
	"github.com/slipway-ci/slipway/shared/id"
	"github.com/slipway-ci/slipway/shared/spec"
)

// runFlags are the flags of `slipway run`.
type runFlags struct {
	file   string
	repo   string
	sha    string
	ref    string
	local  bool
	follow bool
	wait   bool
	params []string
	only   []string
	skip   []string
	key    string
}

func (c *cli) runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [WORKFLOW]",
		Short: "Start a run of a workflow on a commit, a dirty work tree, or nothing at all",
		Long: `Start a run. In a git work tree, WORKFLOW names a file of .slipway/ as it is in
the commit; commit, branch and repository are taken from git, and the agent
checks out exactly that commit. With --file the workflow's text comes from a
file (or - for standard input). --local ships the work tree as it is now.`,
		Example: `  slipway run --follow
  slipway run release --param dry_run=false --sha v1.2.0
  slipway run --file try.yaml --follow`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error { return c.submit(cmd.Context(), f, args) },
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.file, "file", "f", "", "workflow file to run (- is standard input)")
	fl.StringVar(&f.repo, "repo", "", "repository the agent fetches from (default: taken from git)")
	fl.StringVar(&f.sha, "sha", "", "commit to run (default: HEAD)")
	fl.StringVar(&f.ref, "ref", "", "branch or tag to run")
	fl.BoolVar(&f.local, "local", false, "ship the work tree as it is, with changes that are not committed")
	fl.BoolVar(&f.follow, "follow", false, "print the logs live and exit with the run's code")
	fl.BoolVar(&f.wait, "wait", false, "wait for the end and exit with the run's code")
	fl.StringArrayVar(&f.params, "param", nil, "parameter as NAME=VALUE (repeatable)")
	fl.StringSliceVar(&f.only, "only", nil, "run only these steps")
	fl.StringSliceVar(&f.skip, "skip", nil, "leave these steps out")
	fl.StringVar(&f.key, "idempotency-key", "", "the same key gives the same run for 24 hours")
	return cmd
}

func (c *cli) submit(ctx context.Context, f runFlags, args []string) error {
	req, err := c.submitRequest(ctx, f, args)
	if err != nil {
		return err
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	if f.local {
		tree, err := readTree(ctx, ".", "")
		if err != nil {
			return err
		}
		if tree == nil {
			return usagef("cannot use --local: this folder is in no git work tree")
		}
		if req.Archive, err = uploadTree(ctx, cl, tree, c.tenant); err != nil {
			return err
		}
	}
	res, err := cl.runs.SubmitRun(ctx, req)
	if err != nil {
		return err
	}
	for _, w := range res.GetWarnings() {
		if !c.quiet {
			fmt.Fprintf(c.err, "%s %s:%d:%d: %s\n", c.style(c.err).paint("33", "warning:"), w.GetFile(), w.GetLine(), w.GetColumn(), w.GetMessage())
		}
	}
	run := res.GetRun()
	if res.GetExisted() && !c.quiet {
		fmt.Fprintf(c.err, "note: run %s was started with the same --idempotency-key before; this starts none\n", run.GetId())
	}
	if f.follow {
		return c.follow(ctx, cl, run, followLogs)
	}
	if f.wait {
		return c.follow(ctx, cl, run, followStates)
	}
	return c.print(run, run.GetId(), func() error {
		if c.quiet {
			_, err := fmt.Fprintln(c.out, run.GetId())
			return err
		}
		_, err := fmt.Fprintf(c.out, "run %s of %s is %s\nfollow it with: slipway runs watch %s\n", run.GetId(), run.GetWorkflow(), run.GetState(), run.GetId())
		return err
	})
}

func (c *cli) submitRequest(ctx context.Context, f runFlags, args []string) (*pb.SubmitRunRequest, error) {
	params, err := pairs("--param", f.params)
	if err != nil {
		return nil, err
	}
	req := &pb.SubmitRunRequest{
		Params: params, Only: f.only, Skip: f.skip, Tenant: c.tenant, IdempotencyKey: f.key,
	}
	if req.IdempotencyKey == "" {
		req.IdempotencyKey = id.New() // so that a repeat on a lost answer starts nothing twice
	}
	if f.file != "" && len(args) > 0 {
		return nil, usagef("name a WORKFLOW of .slipway or a --file, not both")
	}
	if f.sha != "" && f.ref != "" {
		return nil, usagef("name the commit by --sha or by --ref, not both")
	}
	if f.local && (f.sha != "" || f.ref != "" || f.repo != "") {
		return nil, usagef("--local ships this work tree; it does not go with --sha, --ref or --repo")
	}
	tree, err := readTree(ctx, ".", f.sha+f.ref)
	if err != nil {
		return nil, err
	}
	if tree == nil && (f.ref != "" || f.sha != "") && f.repo == "" {
		return nil, usagef("cannot find a commit: this folder is in no git work tree; name the --repo too")
	}
	if err := c.chooseWorkflow(ctx, req, f, tree, args); err != nil {
		return nil, err
	}
	return req, c.chooseSource(ctx, req, f, tree)
}

func (c *cli) chooseWorkflow(ctx context.Context, req *pb.SubmitRunRequest, f runFlags, tree *gitTree, args []string) error {
	if f.file != "" {
		text, err := c.readFile(f.file)
		if err != nil {
			return err
		}
		return setWorkflow(req, filepath.Base(f.file), text)
	}
	if tree == nil {
		return usagef("what shall run? Name a --file, or go to a git work tree with .slipway/*.yaml")
	}
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	file, err := tree.findWorkflow(ctx, name, f.local)
	if err != nil {
		return err
	}
	return setWorkflow(req, file.name, file.text)
}

// setWorkflow puts the text into the request. What cannot travel is refused
// here, in the server's words: no text, too much of it, or bytes that are none.
func setWorkflow(req *pb.SubmitRunRequest, file string, text []byte) error {
	if !utf8.Valid(text) || len(text) > spec.MaxBytes || len(bytes.TrimSpace(text)) == 0 {
		if _, problems := spec.Parse(text, spec.Options{File: file}); problems.Err() != nil {
			return problems.Errors()
		}
	}
	req.File, req.WorkflowYaml = file, string(text)
	return nil
}

// chooseSource says what the agent checks out. A bare file outside of git
// needs no source at all.
func (c *cli) chooseSource(ctx context.Context, req *pb.SubmitRunRequest, f runFlags, tree *gitTree) error {
	if f.repo != "" {
		req.Repo = f.repo
		if tree == nil || f.sha != "" {
			req.Sha = f.sha
		}
		if len(req.Sha) < 40 && tree != nil {
			req.Sha = tree.sha
		}
		if req.Sha == "" {
			return usagef("--repo needs the whole commit id in --sha")
		}
		return nil
	}
	if tree == nil {
		return nil
	}
	req.Sha, req.Ref, req.Branch, req.Tag = tree.sha, tree.ref, tree.branch, tree.tag
	if f.local {
		req.Dirty = tree.dirty
		return nil
	}
	if tree.sha == "" {
		if f.file != "" {
			return nil
		}
		return usagef("cannot run %s: it has no commit yet; commit, or use --local", tree.root)
	}
	e, err := c.endpoint()
	if err != nil {
		return err
	}
	if req.Repo, err = tree.remote(ctx, e.url); err != nil && f.file != "" {
		req.Sha, req.Ref, req.Branch, req.Tag = "", "", "", ""
		err = nil // a bare file runs without a checkout
	}
	if tree.dirty && !c.quiet && err == nil {
		fmt.Fprintf(c.err, "note: the work tree has changes that the run will not see; --local ships them\n")
	}
	return err
}

func (c *cli) readFile(path string) ([]byte, error) {
	if path == "-" {
		text, err := io.ReadAll(io.LimitReader(c.in, 2<<20)) // above the format's own cap, which complains
		if err != nil {
			return nil, fmt.Errorf("cannot read the workflow from standard input: %w", err)
		}
		return text, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the workflow: %w", err)
	}
	return text, nil
}

// pairs reads repeated NAME=VALUE flags.
func pairs(flag string, list []string) (map[string]string, error) {
	out := make(map[string]string, len(list))
	for _, p := range list {
		name, value, ok := strings.Cut(p, "=")
		if !ok || name == "" {
			return nil, usagef("cannot read %s %q: it must look like NAME=VALUE", flag, p)
		}
		if _, twice := out[name]; twice {
			return nil, usagef("%s names %q twice", flag, name)
		}
		out[name] = value
	}
	return out, nil
}
