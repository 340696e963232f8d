package main

import "github.com/spf13/cobra"

const devRegion = "us-east-1"

func (c *cli) devCommand() *cobra.Command { return &cobra.Command{Use: "dev"} }
