// Package entrypoint puts the program together: it reads the environment and
// the command line, chooses the parts that a job needs, wires them, and turns
// what happens into exit codes. Everything below it is told what to do; nothing
// below it reads the environment or ends the process.
//
// Each command has a file of its own; config.go lists the variables, init.go is
// process 1 of a container, job.go builds a job's parts.
package entrypoint

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// The exit codes of every command.
const (
	exitDone   = 0
	exitFailed = 1 // the job failed; a reason is on stderr
	exitUsage  = 2 // the command was called wrongly
)

// usageError is a command that was called wrongly.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// streams are the three of a process.
type streams struct {
	in  io.Reader
	out io.Writer // results
	err io.Writer // logs and reasons
}

// Main runs the command that argv names, after the program's own name, and
// returns the exit code. When ctx ends the command stops in good order.
func Main(ctx context.Context, argv []string, stdin io.Reader, stdout, stderr io.Writer) int {
	s := streams{stdin, stdout, stderr}
	if calledSSHD(argv) {
		return report(stderr, runSSHD(ctx, s, argv[:1], argv[1:], sshdExits))
	}
	root := newRootCommand(s)
	root.AddCommand(newSSHDCommand(s, argv))
	root.SetArgs(argv[1:])
	return report(stderr, root.ExecuteContext(ctx))
}

// told is an error in words of their own: all its lines as they are, with their
// own exit code. Without text it has been told already.
type told struct {
	text string
	exit int
}

func (t told) Error() string { return t.text }

// report tells why a command did not do what it should, and its exit code.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return exitDone
	}
	var t told
	if errors.As(err, &t) {
		io.WriteString(stderr, t.text)
		return t.exit
	}
	fmt.Fprintf(stderr, "buildenv: %s\n", oneLine(err))
	if errors.As(err, new(usageError)) {
		return exitUsage
	}
	return exitFailed
}

// oneLine is an error's text without line breaks; joined errors have them.
func oneLine(err error) string {
	return inLine(err.Error())
}

func newRootCommand(s streams) *cobra.Command {
	root := newRunCommand(s)
	root.Use = "buildenv [run] [IMAGE_ROOT_PARENT]"
	root.Short = "SSH build environment for operating-system image roots"
	root.Long = rootHelp
	root.Version = version
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usagef("%w; see %q", err, c.CommandPath()+" --help")
	})
	root.AddCommand(
		newRunCommand(s), newPrepareCommand(s), newPackageCommand(s), newCustomizeCommand(s),
		newCompleteCommand(s), newFailCommand(s), newStatusCommand(s),
		newSquashfsCommand(s), newDemoCommand(s), newVersionCommand(s), newCompletionCommand(s),
	)
	addHelpCommand(root)
	return root
}

// addHelpCommand adds the library's command help, with an example like all others.
func addHelpCommand(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	if help, _, err := root.Find([]string{"help"}); err == nil {
		help.Example = "  buildenv help package"
	}
}

const rootHelp = `An image root comes in, an administrator changes it over SSH, and what comes out
is packaged and published. Without a command it is the build environment of a
container: it takes its orders from environment variables (IMS_ACTION, ...) and
from marker files in IMAGE_ROOT_PARENT.

Exit codes: 0 done; 1 the job failed, the reason is on stderr; 2 wrong usage.
Logs go to stderr, results to stdout.`

// args checks the number of a command's arguments and names the ones it takes.
func args(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, given []string) error {
		if len(given) < least || len(given) > most {
			return usagef("%s: %d arguments given; usage: %s", c.CommandPath(), len(given), c.UseLine())
		}
		return nil
	}
}
