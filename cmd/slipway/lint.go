package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway-ci/slipway/shared/spec"
)

// lintRow is a problem as -o json prints it.
type lintRow struct {
	File     string `json:"file"`
	Line     int    `json:"line"`
	Column   int    `json:"column"`
	Severity string `json:"severity"`
	Code     string `json:"code"`
	Message  string `json:"message"`
	Hint     string `json:"hint"`
}

func (c *cli) lintCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "lint [FILE...]",
		Short: "Check workflow files without a server: every error in one pass, exit code 7",
		Long:  "Check workflow files (default: .slipway/*.yaml). Errors end with exit code 7; warnings alone do not.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != "text" && format != "json" && format != "github" {
				return usagef("cannot print as %q: --format takes text, json or github", format)
			}
			if format == "text" && c.output != "table" {
				format = "json"
			}
			return c.lint(cmd.Context(), args, format)
		},
	}
	cmd.Flags().StringVar(&format, "format", "text", "text, json or github (annotations)")
	return cmd
}

func (c *cli) lint(ctx context.Context, files []string, format string) error {
	if len(files) == 0 {
		top := ""
		if _, err := os.Stat(".slipway"); err != nil { // as run does, from anywhere in the tree
			if up, err := git(ctx, ".", "rev-parse", "--show-cdup"); err == nil {
				top = up
			}
		}
		for _, pattern := range []string{".slipway/*.yaml", ".slipway/*.yml"} {
			hits, err := filepath.Glob(filepath.Join(top, pattern))
			if err != nil {
				return err
			}
			files = append(files, hits...)
		}
		files = slices.DeleteFunc(files, func(f string) bool { return filepath.Base(f) == "service.yaml" })
		if len(files) == 0 {
			return usagef("no workflow to check: there is no .slipway/*.yaml here; name a file, or `slipway init` writes one")
		}
	}
	var all spec.Problems
	for _, file := range files {
		found, err := c.lintFile(file)
		if err != nil {
			return err
		}
		all = append(all, found...)
	}
	if err := c.printProblems(all, format); err != nil {
		return err
	}
	failed := slices.ContainsFunc(all, func(p spec.Problem) bool { return p.Severity == spec.Error })
	if failed {
		return &codeError{code: exitLint}
	}
	if format == "text" && !c.quiet {
		fmt.Fprintf(c.out, "%s: %d file(s), %d warning(s)\n", c.style(c.out).green("ok"), len(files), len(all))
	}
	return nil
}

func (c *cli) lintFile(file string) (spec.Problems, error) {
	info, err := os.Stat(file)
	if err == nil && info.IsDir() {
		return nil, usagef("%s is a folder; name the workflow files in it", file)
	}
	text, err := c.readFile(file)
	if err != nil {
		return nil, err
	}
	_, problems := spec.Parse(text, spec.Options{File: file})
	return problems, nil
}

func (c *cli) printProblems(all spec.Problems, format string) error {
	switch format {
	case "json":
		rows := []lintRow{}
		for _, p := range all {
			rows = append(rows, lintRow{p.File, p.Line, p.Col, string(p.Severity), p.Code, p.Msg, p.Hint})
		}
		raw, err := json.Marshal(map[string]any{"problems": rows})
		if err != nil {
			return err
		}
		if c.output == "table" {
			c.output = "json"
		}
		return c.printRaw(raw)
	case "github":
		for _, p := range all {
			fmt.Fprintf(c.out, "::%s file=%s,line=%d,col=%d::%s\n", p.Severity, p.File, p.Line, p.Col, strings.ReplaceAll(p.Msg, "\n", "%0A"))
		}
		return nil
	}
	if len(all) == 0 {
		return nil
	}
	_, err := fmt.Fprintln(c.out, all.Error())
	return err
}
