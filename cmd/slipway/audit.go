package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

func (c *cli) auditCommand() *cobra.Command {
	var req pb.ListAuditRequest
	list := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List changes by people and tokens, newest first",
		Args:    atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := c.client()
			if err != nil {
				return err
			}
			res, err := cl.admin.ListAudit(cmd.Context(), &req)
			if err != nil {
				return err
			}
			return printList(c, res, res.GetEntries(), (*pb.AuditEntry).GetIndex, func() error {
				if len(res.GetEntries()) == 0 {
					_, err := fmt.Fprintln(c.out, "no entries")
					return err
				}
				var rows [][]string
				for _, e := range res.GetEntries() {
					object := e.GetRun()
					if e.GetStep() != "" {
						object += "/" + e.GetStep()
					}
					rows = append(rows, []string{
						e.GetAt().AsTime().Local().Format(time.DateTime), e.GetActor(), e.GetAction(), orElse(object, "-"),
						orElse(e.GetReason(), "-"), orElse(e.GetBefore(), "-"), orElse(e.GetAfter(), "-"),
					})
				}
				if err := writeTable(c.out, []string{"TIME", "WHO", "ACTION", "OBJECT", "REASON", "BEFORE", "AFTER"}, rows); err != nil {
					return err
				}
				if res.GetNext() != "" && !c.quiet {
					fmt.Fprintf(c.err, "older ones: slipway audit ls --before %s\n", res.GetNext())
				}
				return nil
			})
		},
	}
	f := list.Flags()
	f.StringVar(&req.Run, "run", "", "only changes of this run")
	f.StringVar(&req.Sha, "sha", "", "only changes of runs of this commit")
	f.Int32Var(&req.Limit, "limit", 50, "how many, at most 500")
	f.StringVar(&req.Before, "before", "", "only entries older than this index")
	return noun("audit", "The record of who did what", list)
}
