// Slipway-init is the parent of a step's processes; package stepinit tells what
// it does. It is started by an agent as `slipway-init run FOLDER`.
package main

import (
	"fmt"
	"os"

	"github.com/slipway-ci/slipway/agent/stepinit"
)

func main() {
	if len(os.Args) != 3 || os.Args[1] != stepinit.Verb {
		fmt.Fprintln(os.Stderr, "usage: slipway-init run FOLDER\n\nAn agent starts this for every process step; it is of no use by hand.")
		os.Exit(2)
	}
	os.Exit(stepinit.Main(os.Args[2]))
}
