package entrypoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"buildenv/sshd"
	"buildenv/sshd/sshdconfig"
)

const sshdHelp = `The SSH server by itself, with the options of OpenSSH's sshd (sshd(8)) and its
configuration file, by default ` + sshdconfig.DefaultFile + `. It goes to the background
unless -D, -d or -i is given, and returns when clients can connect. The program
does the same when it is called by the name sshd.

SIGHUP reads the configuration again; one with mistakes is refused. SIGTERM ends
the listening; sessions go on, in a process that ends with the last of them.

`

func newSSHDCommand(s streams, argv []string) *cobra.Command {
	command := &cobra.Command{
		Use:   "sshd [sshd options]",
		Short: "Be an SSH server, as OpenSSH's sshd",
		Long:  sshdHelp + strings.TrimSpace(sshdconfig.Usage),
		Example: `  buildenv sshd -t -f sshd_config
  buildenv sshd -D -e -p 2022 -h ssh_host_ed25519_key -f none
  ssh -o ProxyCommand='buildenv sshd -i -f sshd_config' root@localhost`,
		DisableFlagParsing:    true,
		DisableFlagsInUseLine: true,
		RunE: func(c *cobra.Command, given []string) error {
			if slices.Equal(given, []string{"--help"}) {
				return c.Help()
			}
			return runSSHD(c.Context(), s, argv[:len(argv)-len(given)], given, ownExits)
		},
	}
	command.Flags().Bool("help", false, "") // not -h, which is a host key
	command.Flags().MarkHidden("help")
	return command
}

// exits are the codes that say what went wrong.
type exits struct{ usage, failed int }

var (
	ownExits  = exits{exitUsage, exitFailed}
	sshdExits = exits{1, 255} // of OpenSSH, for scripts that know them
)

// calledSSHD tells whether the program goes by sshd's name.
func calledSSHD(argv []string) bool { return filepath.Base(argv[0]) == "sshd" }

// IsSSHD tells whether a command line is the SSH server's, for which SIGHUP is no
// reason to stop.
func IsSSHD(argv []string) bool {
	return calledSSHD(argv) || len(argv) > 1 && argv[1] == "sshd"
}

// sshdCommand is one run of the SSH server by itself.
type sshdCommand struct {
	streams
	cl    sshdconfig.CommandLine
	exits exits
	cfg   Config
	logs  *sshdLogs
	files []*logFile // to be opened anew when the configuration is
	front front      // the process that was started, if that is another one

	server  *sshd.Server
	pidFile string // that has been written, "" for none
}

// runSSHD does what args ask for. program is what stands before them on the
// command line.
func runSSHD(ctx context.Context, s streams, program, args []string, codes exits) error {
	c := &sshdCommand{streams: s, exits: codes, logs: newSSHDLogs(s.err)}
	c.front, args = takeFront(args)
	keepToOurselves()
	var err error
	if c.cl, err = sshdconfig.ParseCommandLine(args); err != nil {
		return told{fmt.Sprintf("%v\n%s\n%s", err, softwareLine(), sshdconfig.Usage), codes.usage}
	}
	if c.cl.Version {
		_, err := fmt.Fprintln(s.err, softwareLine())
		return err
	}
	if as := c.standsBehind(); as != "" && c.front.news == nil {
		return inFront(as, program, args, c.notifyService)
	}
	c.cfg, _ = readEnvironment() // what else is wrong with it concerns jobs
	c.spareClient()
	defer c.close()
	if err := c.do(ctx); err != nil {
		return c.failed(err)
	}
	return nil
}

func softwareLine() string { return fmt.Sprintf("buildenv %s, %s", version, runtime.Version()) }

// serves tells whether anybody is to be served, as opposed to a look at the
// configuration.
func (c *sshdCommand) serves() bool { return !c.cl.Test && !c.cl.TestExtended && !c.cl.Dump }

// standsBehind says as what the server is a process of its own, "" for not at all:
// not for one client only, nor as the program of a container, which ends with it.
func (c *sshdCommand) standsBehind() string {
	switch {
	case !c.serves() || c.cl.Debug > 0 || c.cl.Inetd:
		return ""
	case !c.cl.NoDetach:
		return behindNoOne
	case belowInit():
		return ""
	}
	return behindOne
}

func (c *sshdCommand) do(ctx context.Context) error {
	unix.Umask(unix.Umask(0o077) | 0o022) // as sshd: the sessions inherit it
	if c.cl.LogFile != "" {
		f, err := openLogFile(c.cl.LogFile)
		if err != nil {
			return err
		}
		c.files = append(c.files, f)
		c.logs.toFile(f)
	}
	config, err := c.load()
	if err != nil {
		return err
	}
	if c.cl.Dump {
		return c.dump(config)
	}
	if err := c.newServer(ctx, config); err != nil {
		return err
	}
	switch {
	case c.cl.TestExtended:
		return c.dump(config)
	case c.cl.Test:
		return nil
	}
	tuneMemory()
	c.beginLog(config)
	if c.cl.Inetd {
		return c.serveStdio(ctx)
	}
	return c.serve(ctx)
}

// load reads the configuration.
func (c *sshdCommand) load() (*sshdconfig.Config, error) {
	config, err := sshdconfig.Load(c.cl, nil, sshdconfig.Overlay{})
	if err != nil {
		return nil, err
	}
	for _, warning := range config.Warnings() {
		c.logs.logger().Warn(warning)
	}
	return config, nil
}

// newServer checks the configuration and the host keys.
func (c *sshdCommand) newServer(ctx context.Context, config *sshdconfig.Config) error {
	audit, err := c.audit()
	if err != nil {
		return err
	}
	c.server, err = sshd.New(sshd.Config{
		Settings:     config,
		KeepHostKeys: true,
		Once:         c.cl.Debug > 0,
		TimeZone:     os.Getenv("TZ"),
		Log:          c.logs.logger(),
		Audit:        audit,
		Recordings:   c.cfg.recordings(),
	})
	if err != nil {
		return err
	}
	return c.server.Check(ctx)
}

// audit is what the server's clients do. Those of sshd itself are in its log
// only, so that an audit there is has to be asked for.
func (c *sshdCommand) audit() (*slog.Logger, error) {
	switch c.cfg.AuditLog {
	case "":
		return nil, nil
	case auditWithLog:
		return sshd.NewAudit(c.logs), nil
	}
	f, err := c.cfg.auditFile()
	if err != nil {
		return nil, err
	}
	c.files = append(c.files, f)
	return sshd.NewAudit(f), nil
}

// dump prints the settings in force, for the connection that -C describes.
func (c *sshdCommand) dump(config *sshdconfig.Config) error {
	var conn sshdconfig.Connection
	if c.cl.TestConnection != nil {
		conn = *c.cl.TestConnection
		conn.Groups = sshd.Groups(conn.User)
	}
	text, err := config.Dump(conn)
	if err != nil {
		return err
	}
	_, err = io.WriteString(c.out, text)
	return err
}

// beginLog sends lines to where sshd sends them once it serves.
func (c *sshdCommand) beginLog(config *sshdconfig.Config) {
	if c.cl.LogToStderr && c.front.left() {
		c.logs.logger().Warn("-e has no effect in the background, where there is no standard error: use -E FILE")
	}
	if c.cl.LogFile != "" {
		return
	}
	if c.front.left() && !hasSystemLog() {
		c.logs.logger().Warn("there is no system log, so that nothing is logged in the background: use -E FILE")
	}
	c.logs.serving(config.Server().SyslogFacility, c.cl.LogToStderr && !c.front.left(), c.err, c.cfg.LogFormat)
}

// spareClient keeps everything but the protocol from a client whose socket is
// stderr, too, as inetd has it.
func (c *sshdCommand) spareClient() {
	if c.cl.Inetd && !c.cl.LogToStderr && sameFile(c.in, c.err) {
		c.err = io.Discard
		c.logs.serving("AUTH", false, c.err, "")
	}
}

// failed is the error that ends the command, in sshd's words.
func (c *sshdCommand) failed(err error) error {
	t := told{"sshd: " + oneLine(err), c.exits.failed}
	switch {
	case errors.Is(err, sshd.ErrNoHostKeys):
		t = told{"sshd: no hostkeys available -- exiting.", exitFailed}
	case errors.As(err, new(*sshdconfig.Error)):
		t.text = err.Error()
	}
	if !c.logs.onStderr() {
		c.logs.logger().Error(t.text)
	}
	if c.err == io.Discard {
		return told{exit: t.exit}
	}
	t.text += "\n"
	return t
}

func (c *sshdCommand) close() {
	for _, f := range c.files {
		f.Close()
	}
}

// sameFile tells whether two streams are one: inetd's three are the socket.
func sameFile(a io.Reader, b io.Writer) bool {
	in, isFile := a.(*os.File)
	out, areFiles := b.(*os.File)
	if !isFile || !areFiles {
		return false
	}
	one, err := in.Stat()
	two, err2 := out.Stat()
	return err == nil && err2 == nil && os.SameFile(one, two)
}
