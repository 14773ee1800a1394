package entrypoint

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

func newCompletionCommand(s streams) *cobra.Command {
	shells := []string{"bash", "fish", "powershell", "zsh"}
	return &cobra.Command{
		Use:     "completion SHELL",
		Short:   "Print the script by which a shell completes buildenv's command lines",
		Long:    "Prints a script for one of the shells " + strings.Join(shells, ", ") + ".",
		Example: "  source <(buildenv completion bash)",
		Args: func(c *cobra.Command, given []string) error {
			if err := args(1, 1)(c, given); err != nil {
				return err
			}
			if !slices.Contains(shells, given[0]) {
				return usagef("completion: %q is none of %s", given[0], strings.Join(shells, ", "))
			}
			return nil
		},
		ValidArgs: shells,
		RunE: func(c *cobra.Command, given []string) error {
			switch given[0] {
			case "fish":
				return c.Root().GenFishCompletion(s.out, true)
			case "powershell":
				return c.Root().GenPowerShellCompletionWithDesc(s.out)
			case "zsh":
				return c.Root().GenZshCompletion(s.out)
			default:
				return c.Root().GenBashCompletionV2(s.out, true)
			}
		},
	}
}
