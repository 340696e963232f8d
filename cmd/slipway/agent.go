package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

func (c *cli) agentCommand() *cobra.Command {
	return noun("agent", "List and show the fleet's agents", c.agentList(), c.agentShow())
}

func (c *cli) agentList() *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the agents",
		Args:    atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := c.client()
			if err != nil {
				return err
			}
			res, err := cl.admin.ListAgents(cmd.Context(), &pb.ListAgentsRequest{})
			if err != nil {
				return err
			}
			return printList(c, res, res.GetAgents(), (*pb.Agent).GetName, func() error {
				if len(res.GetAgents()) == 0 {
					_, err := fmt.Fprintln(c.out, "no agents")
					return err
				}
				st, now := c.style(c.out), time.Now()
				var rows [][]string
				for _, a := range res.GetAgents() {
					rows = append(rows, []string{
						a.GetName(), st.state(a.GetState()), fmt.Sprintf("%d/%d", a.GetRunning(), a.GetSlots()),
						fmt.Sprintf("%.1f/%.1f", a.GetUsed().GetCpu(), a.GetCapacity().GetCpu()),
						size(a.GetUsed().GetMemory()) + "/" + size(a.GetCapacity().GetMemory()),
						strings.Join(a.GetQueues(), ","), strings.Join(a.GetExecutors(), ","), ago(a.GetSeenAt(), now),
					})
				}
				return writeTable(c.out, []string{"AGENT", "STATE", "STEPS", "CPU", "MEMORY", "QUEUES", "EXECUTORS", "SEEN"}, rows)
			})
		},
	}
}

func (c *cli) agentShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show AGENT",
		Short: "Show an agent by name or id",
		Args:  exactly(1, "an agent"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := c.client()
			if err != nil {
				return err
			}
			res, err := cl.admin.GetAgent(cmd.Context(), &pb.GetAgentRequest{Agent: args[0]})
			if err != nil {
				return err
			}
			a := res.GetAgent()
			return c.print(a, a.GetName(), func() error {
				st, now := c.style(c.out), time.Now()
				fmt.Fprintf(c.out, "agent     %s (%s)\nstate     %s, seen %s\nversion   %s\n", st.bold(a.GetName()), a.GetId(), st.state(a.GetState()), ago(a.GetSeenAt(), now), a.GetVersion())
				fmt.Fprintf(c.out, "queues    %s\nexecutors %s\n", strings.Join(a.GetQueues(), ", "), strings.Join(a.GetExecutors(), ", "))
				fmt.Fprintf(c.out, "capacity  %.1f cores, %s, %d steps\n", a.GetCapacity().GetCpu(), size(a.GetCapacity().GetMemory()), a.GetSlots())
				for _, k := range slices.Sorted(maps.Keys(a.GetTags())) {
					fmt.Fprintf(c.out, "tag       %s=%s\n", k, a.GetTags()[k])
				}
				for _, ref := range a.GetAttempts() {
					fmt.Fprintf(c.out, "runs      %s\n", ref)
				}
				return nil
			})
		},
	}
}
