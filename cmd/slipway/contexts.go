package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
	"github.com/slipway-ci/slipway/shared/version"
)

func (c *cli) contextCommand() *cobra.Command {
	return noun("context", "The servers of the config file", c.contextList(), c.contextUse(), c.contextAdd(), c.contextRemove())
}

func (c *cli) contextList() *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the contexts",
		Args:    atMost(0),
		RunE: func(*cobra.Command, []string) error {
			file, err := loadContexts()
			if err != nil {
				return err
			}
			if c.output == "name" {
				for _, ctx := range file.Contexts {
					fmt.Fprintln(c.out, ctx.Name)
				}
				return nil
			}
			if c.output != "table" {
				return c.printRaw(contextsJSON(file))
			}
			var rows [][]string
			for _, ctx := range file.Contexts {
				mark := ""
				if ctx.Name == file.Current {
					mark = "*"
				}
				rows = append(rows, []string{mark, ctx.Name, ctx.URL, orElse(ctx.Tenant, "-")})
			}
			if len(rows) == 0 {
				_, err := fmt.Fprintln(c.out, "no contexts; add one with: slipway context add NAME --server URL --token-file FILE")
				return err
			}
			return writeTable(c.out, []string{"", "CONTEXT", "URL", "TENANT"}, rows)
		},
	}
}

// contextsJSON lists the contexts without their tokens.
func contextsJSON(file contextFile) []byte {
	type row struct {
		Name    string `json:"name"`
		URL     string `json:"url"`
		Tenant  string `json:"tenant"`
		Current bool   `json:"current"`
	}
	rows := []row{}
	for _, ctx := range file.Contexts {
		rows = append(rows, row{ctx.Name, ctx.URL, ctx.Tenant, ctx.Name == file.Current})
	}
	raw, err := json.Marshal(map[string]any{"contexts": rows})
	if err != nil {
		panic(err) // strings and bools always marshal
	}
	return raw
}

func (c *cli) contextUse() *cobra.Command {
	return &cobra.Command{
		Use:   "use NAME",
		Short: "Make a context the default",
		Args:  exactly(1, "a context"),
		RunE: func(_ *cobra.Command, args []string) error {
			file, err := loadContexts()
			if err != nil {
				return err
			}
			if file.find(args[0]) == nil {
				return usagef("no context %q in %s", args[0], contextPath())
			}
			file.Current = args[0]
			return saveContexts(file)
		},
	}
}

func (c *cli) contextAdd() *cobra.Command {
	var ctx namedContext
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Add or replace a context",
		Args:  exactly(1, "a name"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkServer("--server", ctx.URL); err != nil {
				return err
			}
			file, err := loadContexts()
			if err != nil {
				return err
			}
			ctx.Name, ctx.Tenant = args[0], c.tenant
			if ctx.TokenFile != "" {
				if ctx.TokenFile, err = filepath.Abs(ctx.TokenFile); err != nil {
					return err
				}
				if _, err := os.Stat(ctx.TokenFile); err != nil {
					return usagef("cannot find the token's file: %w", err)
				}
			}
			if old := file.find(ctx.Name); old != nil {
				*old = ctx
			} else {
				file.Contexts = append(file.Contexts, ctx)
			}
			if file.Current == "" {
				file.Current = ctx.Name
			}
			return saveContexts(file)
		},
	}
	cmd.Flags().StringVar(&ctx.URL, "server", "", "the server's URL")
	cmd.Flags().StringVar(&ctx.TokenFile, "token-file", "", "file that holds the token")
	return cmd
}

func (c *cli) contextRemove() *cobra.Command {
	return &cobra.Command{
		Use:   "rm NAME",
		Short: "Forget a context",
		Args:  exactly(1, "a context"),
		RunE: func(_ *cobra.Command, args []string) error {
			file, err := loadContexts()
			if err != nil {
				return err
			}
			if file.find(args[0]) == nil {
				return usagef("no context %q in %s", args[0], contextPath())
			}
			file.Contexts = slices.DeleteFunc(file.Contexts, func(x namedContext) bool { return x.Name == args[0] })
			if file.Current == args[0] {
				file.Current = ""
			}
			return saveContexts(file)
		},
	}
}

func saveContexts(file contextFile) error {
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	if err := enc.Encode(file); err != nil {
		return fmt.Errorf("cannot write the contexts: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(contextPath()), 0o700); err != nil {
		return fmt.Errorf("cannot write the contexts: %w", err)
	}
	return writeFile(contextPath(), out.Bytes(), 0o600)
}

// writeFile replaces a file in one step.
func writeFile(path string, data []byte, mode os.FileMode) error {
	part, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	defer os.Remove(part.Name())
	_, err = part.Write(data)
	if err == nil {
		err = part.Chmod(mode)
	}
	if closing := part.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(part.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	return nil
}

func (c *cli) whoamiCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "whoami",
		Short: "Tell which server answers, and as whom",
		Args:  atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := c.client()
			if err != nil {
				return err
			}
			info, err := cl.admin.GetInfo(cmd.Context(), &pb.GetInfoRequest{})
			if err != nil {
				return err
			}
			return c.print(info, info.GetUser(), func() error {
				_, err := fmt.Fprintf(c.out, "user      %s (%s)\ntenant    %s\ncluster   %s\nserver    %s\nbucket    %s\nS3        %s\nregistry  %s\n",
					info.GetUser(), info.GetRole(), orElse(info.GetTenant(), "every one"), info.GetCluster(), info.GetVersion(),
					info.GetBucket(), info.GetS3Endpoint(), orElse(info.GetRegistry(), "-"))
				return err
			})
		},
	}
}

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  atMost(0),
		RunE: func(*cobra.Command, []string) error {
			if c.output == "table" || c.output == "name" {
				_, err := fmt.Fprintf(c.out, "slipway %s\n", version.String())
				return err
			}
			raw, err := json.Marshal(map[string]string{"version": version.Version, "build": version.String()})
			if err != nil {
				return err
			}
			return c.printRaw(raw)
		},
	}
}
