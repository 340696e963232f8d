// Slipway-init is the parent of a step's processes; package stepinit tells what
// it does. It is started by an agent as `slipway-init run FOLDER`, and in a
// container as `slipway-init exec -- COMMAND`.
package main

import (
	"fmt"
	"os"

	"github.com/slipway-ci/slipway/agent/stepinit"
)

func main() {
	args := os.Args[1:]
	switch {
	case len(args) == 2 && args[0] == stepinit.Verb:
		os.Exit(stepinit.Main(args[1]))
	case len(args) >= 2 && args[0] == stepinit.ExecVerb && args[1] == "--":
		stepinit.Hide(args[2:])
		os.Exit(stepinit.Exec(args[2:]))
	case len(args) == 2 && args[0] == stepinit.HeldVerb:
		argv, err := stepinit.Held(args[1])
		if err != nil {
			fmt.Fprintln(os.Stderr, "slipway-init: cannot read the command:", err)
			os.Exit(stepinit.ExecUnusable)
		}
		os.Exit(stepinit.Exec(argv))
	}
	fmt.Fprintln(os.Stderr, "usage: slipway-init run FOLDER\n       slipway-init exec -- COMMAND...\n\nAn agent starts this for every step; it is of no use by hand.")
	os.Exit(2)
}
