package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// undocumented lists the verbs and flags that a text does not name.
func undocumented(cmd *cobra.Command, text string) []string {
	var missing []string
	for _, sub := range cmd.Commands() {
		if sub.Hidden || sub.Name() == "help" || sub.Name() == "completion" {
			continue
		}
		if sub.Runnable() && len(sub.Commands()) == 0 && !strings.Contains(text, sub.CommandPath()) {
			missing = append(missing, sub.CommandPath())
		}
		sub.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && !strings.Contains(text, "--"+f.Name) && (f.Shorthand == "" || !strings.Contains(text, "-"+f.Shorthand)) {
				missing = append(missing, sub.CommandPath()+" --"+f.Name)
			}
		})
		missing = append(missing, undocumented(sub, text)...)
	}
	return missing
}
