package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

// starter is a first workflow for a kind of project, known by a file of it.
type starter struct {
	file  string
	image string
	run   string
}

var starters = []starter{
	{"go.mod", "golang:1.26-bookworm", "go vet ./...\ngo test ./..."},
	{"package.json", "node:24-bookworm", "npm ci\nnpm test"},
	{"Cargo.toml", "rust:1-bookworm", "cargo test"},
	{"pyproject.toml", "python:3.14-bookworm", "pip install -e .\npython -m pytest"},
	{"requirements.txt", "python:3.14-bookworm", "pip install -r requirements.txt\npython -m pytest"},
	{"pom.xml", "maven:3-eclipse-temurin-21", "mvn -B verify"},
	{"Makefile", "debian:bookworm", "make test"},
}

func (c *cli) initCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "Write .slipway/workflow.yaml for the project in this folder",
		Args:  atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			path := filepath.Join(".slipway", "workflow.yaml")
			if _, err := os.Stat(path); err == nil {
				return usagef("%s is there already; edit it, and check it with `slipway lint`", path)
			}
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return fmt.Errorf("cannot write %s: %w", path, err)
			}
			chosen := detect(".")
			if err := writeFile(path, []byte(starterText(chosen)), 0o644); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.out, "wrote %s (%s)\ncheck it with: slipway lint\nrun it with:   %s\n", path,
				orElse(chosen.file, "no known kind of project found"), firstRun(cmd.Context(), path))
			return err
		},
	}
}

// firstRun is the command that runs the new file from this folder.
func firstRun(ctx context.Context, path string) string {
	switch above, err := git(ctx, ".", "rev-parse", "--show-prefix"); {
	case err != nil:
		return "git init && slipway run --local --follow"
	case above != "":
		return "slipway run --local --follow -f " + path
	}
	return "slipway run --local --follow"
}

func detect(dir string) starter {
	for _, s := range starters {
		if _, err := os.Stat(filepath.Join(dir, s.file)); !errors.Is(err, fs.ErrNotExist) {
			return s
		}
	}
	return starter{image: "debian:bookworm", run: "echo \"put your tests here\""}
}

func starterText(s starter) string {
	text := "# docs/workflow.md tells every key. Check this file with `slipway lint`.\nversion: 1\nsteps:\n  - id: test\n    image: " + s.image + "\n    timeout: 30m\n    run: |\n"
	line := ""
	for _, r := range s.run + "\n" {
		if r != '\n' {
			line += string(r)
			continue
		}
		text += "      " + line + "\n"
		line = ""
	}
	return text
}
