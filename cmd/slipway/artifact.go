package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"

	"github.com/spf13/cobra"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
	"github.com/slipway-ci/slipway/shared/ci"
)

func (c *cli) artifactCommand() *cobra.Command {
	return noun("artifact", "List and fetch what steps kept", c.artifactList(), c.artifactGet())
}

func (c *cli) artifactList() *cobra.Command {
	return &cobra.Command{
		Use:     "ls RUN[/STEP]",
		Aliases: []string{"list"},
		Short:   "List the artifacts of a run or a step",
		Args:    exactly(1, "a run or a step"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := parseRef(args[0])
			if err != nil {
				return err
			}
			cl, err := c.client()
			if err != nil {
				return err
			}
			res, err := cl.runs.ListArtifacts(cmd.Context(), &pb.ListArtifactsRequest{Run: ref.run, Step: ref.step})
			if err != nil {
				return err
			}
			return printList(c, res, res.GetArtifacts(), (*pb.Artifact).GetPath, func() error {
				if len(res.GetArtifacts()) == 0 {
					_, err := fmt.Fprintln(c.out, "no artifacts")
					return err
				}
				var rows [][]string
				for _, a := range res.GetArtifacts() {
					rows = append(rows, []string{fmt.Sprintf("%s#%d", a.GetStep(), a.GetAttempt()), a.GetPath(), size(a.GetSize()), a.GetSha256()[:min(12, len(a.GetSha256()))]})
				}
				return writeTable(c.out, []string{"STEP", "PATH", "SIZE", "SHA256"}, rows)
			})
		},
	}
}

func (c *cli) artifactGet() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "get RUN[/STEP[#NUMBER]] PATH",
		Short: "Fetch an artifact and check its sha256",
		Args:  exactly(2, "a run or a step, and the artifact's path"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := parseRef(args[0])
			if err != nil {
				return err
			}
			cl, err := c.client()
			if err != nil {
				return err
			}
			res, err := cl.runs.GetArtifact(cmd.Context(), &pb.GetArtifactRequest{Run: ref.run, Step: ref.step, Attempt: ref.attempt, Path: args[1]})
			if err != nil {
				return err
			}
			return c.fetch(cmd.Context(), res, to)
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "file to write, - for standard output (default: the artifact's name, here)")
	return cmd
}

// fetch downloads beside the target and renames, so that a broken transfer
// leaves nothing that looks whole.
func (c *cli) fetch(ctx context.Context, res *pb.GetArtifactResponse, to string) error {
	a := res.GetArtifact()
	if to == "-" {
		return download(ctx, res.GetUrl(), a, c.out)
	}
	if to == "" {
		to = path.Base(a.GetPath())
	}
	if info, err := os.Stat(to); err == nil && info.IsDir() {
		to = filepath.Join(to, path.Base(a.GetPath()))
	}
	part, err := os.CreateTemp(filepath.Dir(to), "."+filepath.Base(to)+".*")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", to, err)
	}
	defer os.Remove(part.Name())
	if err := download(ctx, res.GetUrl(), a, part); err != nil {
		part.Close()
		return err
	}
	if err := part.Chmod(0o644); err != nil {
		return fmt.Errorf("cannot write %s: %w", to, err)
	}
	if err := part.Close(); err != nil {
		return fmt.Errorf("cannot write %s: %w", to, err)
	}
	if err := os.Rename(part.Name(), to); err != nil {
		return fmt.Errorf("cannot write %s: %w", to, err)
	}
	return c.print(a, a.GetPath(), func() error {
		if c.quiet {
			return nil
		}
		_, err := fmt.Fprintf(c.out, "%s: %s, sha256 %s\n", to, size(a.GetSize()), a.GetSha256())
		return err
	})
}

func download(ctx context.Context, url string, a *pb.Artifact, w io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("cannot fetch %s: %w", a.GetPath(), err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return ci.Errorf(ci.Unavailable, "cannot fetch %s from the store: %w", a.GetPath(), err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 500))
		return ci.Errorf(ci.Unavailable, "cannot fetch %s: the store says %s: %s", a.GetPath(), res.Status, text)
	}
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(w, sum), res.Body); err != nil {
		return ci.Errorf(ci.Unavailable, "cannot fetch %s: %w", a.GetPath(), err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); a.GetSha256() != "" && got != a.GetSha256() {
		return ci.Errorf(ci.Internal, "%s arrived with sha256 %s, its status says %s", a.GetPath(), got, a.GetSha256())
	}
	return nil
}
