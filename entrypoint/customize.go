package entrypoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"buildenv/agent"
	"buildenv/agent/marker"
	"buildenv/artifacts/rootfs"
	"buildenv/artifacts/source"
)

// customizeFlags are the flags of customize.
type customizeFlags struct {
	packageFlags
	from, script, ssh, keys, work string
	jail                          bool
	mode                          source.Mode
	scriptErr                     error  // why the script failed
	again                         string // the command that packages what is kept
}

func newCustomizeCommand(s streams) *cobra.Command {
	var f customizeFlags
	c := &cobra.Command{
		Use:   "customize --from SOURCE --name NAME --to STORE",
		Short: "Unpack, change and package an image on this machine, without a pod",
		Long: `Unpacks SOURCE, lets a script or SSH users change it, and packages the result.

With --ssh the session lasts until somebody marks it complete or failed; users are
jailed in the image root. With --script alone the script decides: exit status 0
completes the job, any other fails it. The script runs on this machine, outside
the image root, and finds it at $IMAGE_ROOT_PARENT/image-root.`,
		Example: `  buildenv customize --from base.squashfs --name compute --to file:///srv/images --script ./install.sh
  buildenv customize --from base.tar --name compute --to file:///srv/images --ssh 127.0.0.1:2022 --authorized-keys ~/.ssh/id_ed25519.pub`,
		Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := f.check("from", f.from, "name", f.name, "to", f.to); err != nil {
				return err
			}
			if err := f.checkSession(); err != nil {
				return err
			}
			f.again = packageCommand(c.Flags())
			return f.run(c.Context(), s)
		},
	}
	c.Flags().StringVar(&f.from, "from", "", "the image to start from: a directory, a tar or a squashfs file, or the URL of one")
	c.Flags().StringVar(&f.script, "script", "", "customization script")
	c.Flags().StringVar(&f.ssh, "ssh", "", "address to serve SSH on, HOST:PORT")
	c.Flags().StringVar(&f.keys, "authorized-keys", "", "authorized_keys file of the SSH users")
	c.Flags().BoolVar(&f.jail, "jail", true, "jail SSH users in the image root")
	c.Flags().StringVar(&f.work, "work", "", "folder to work in (default: a new one in /var/lib/buildenv, removed afterwards)")
	registerRootMode(c.Flags(), &f.mode, source.ModeAuto)
	f.register(c)
	return c
}

func (f *customizeFlags) checkSession() error {
	switch {
	case f.script == "" && f.ssh == "":
		return usagef("nothing to change the image with: give --script, or --ssh with --authorized-keys")
	case f.ssh != "" && f.keys == "":
		return usagef("--ssh needs --authorized-keys: nobody could log in")
	case f.script != "" && !isFile(f.script):
		return usagef("--script: %s is no file", f.script)
	case f.keys != "" && !isFile(f.keys):
		return usagef("--authorized-keys: %s is no file", f.keys)
	}
	if f.ssh != "" {
		if _, _, err := net.SplitHostPort(f.ssh); err != nil {
			return usagef("--ssh: %w", err)
		}
	}
	return nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func (f *customizeFlags) run(ctx context.Context, s streams) (err error) {
	cfg, err := f.jobConfig()
	if err != nil {
		return err
	}
	if f.work == "" {
		if cfg.ImageRootParent, err = workDir(); err != nil {
			return err
		}
	}
	release, err := claim(&cfg)
	if err != nil {
		return err
	}
	defer release()
	log := newLogger(s.err, cfg)
	work := false // somebody's, which must not be thrown away
	defer func() {
		if f.work == "" && !work {
			removeWork(cfg.ImageRootParent, log)
		}
	}()
	sweepMounts(log)
	root := filepath.Join(cfg.ImageRootParent, imageRoot)
	if err := unmountLeft(root); err != nil {
		return err
	}
	if err := prepare(ctx, s, log, cfg, f.mode, f.from); err != nil {
		return err
	}
	detach, err := attachRoot(root)
	if err != nil {
		return err
	}
	defer detaching(detach, &err)
	j, err := newJob(cfg, log, s.err)
	if err != nil {
		return err
	}
	defer j.server.Close()
	err = f.customize(ctx, s, j)
	if err == nil || errors.Is(err, agent.ErrJobFailed) || !f.hasWork(ctx, j) {
		return err
	}
	work = true
	return errors.Join(fmt.Errorf("%w; the image root is kept: %s --root %s, or remove %s", err, f.again, j.root, cfg.ImageRootParent),
		j.withRoot(clearMarkers))
}

// hasWork tells whether a job that was cut short leaves somebody's work: users
// were let in, or the script had done its part.
func (f *customizeFlags) hasWork(ctx context.Context, j *job) bool {
	if f.ssh != "" {
		return j.server.server != nil && len(j.server.server.Addrs()) > 0
	}
	return ctx.Err() == nil
}

// packageCommand is the command package with the flags that were given and that
// it knows, too, for a shell.
func packageCommand(given *pflag.FlagSet) string {
	known := newPackageCommand(streams{}).Flags()
	words := []string{"buildenv package"}
	given.Visit(func(flag *pflag.Flag) {
		if known.Lookup(flag.Name) != nil && flag.Name != "from" { // customize calls any source so
			words = append(words, "--"+flag.Name+"="+shellQuote(flag.Value.String()))
		}
	})
	return strings.Join(words, " ")
}

// shellQuote makes one word of a shell's command line.
func shellQuote(word string) string {
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool { return !strings.ContainsRune(plainRunes, r) }) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// plainRunes mean nothing to a shell.
const plainRunes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=@+,"

// removeWork removes the folder that a job has worked in, unless something is
// still mounted there: it would be emptied along with it.
func removeWork(dir string, log *slog.Logger) {
	mounted, err := rootfs.Below(dir)
	if err == nil && len(mounted) > 0 {
		err = fmt.Errorf("%s is mounted there", strings.Join(mounted, ", "))
	}
	if err == nil {
		err = os.RemoveAll(dir)
	}
	if err != nil {
		log.Error("the folder of the job is kept", "folder", dir, "error", err)
	}
}

// varDir is where work without a pod is done. A jail must not lie below a folder
// that everybody may write to, such as /tmp.
const varDir = "/var/lib/buildenv"

// workDir makes a new folder for a job, which the caller removes.
func workDir() (string, error) {
	if err := os.MkdirAll(varDir, 0o755); err != nil {
		return "", fmt.Errorf("make a folder to work in: %w", err)
	}
	dir, err := os.MkdirTemp(varDir, jobPrefix)
	if err != nil {
		return "", fmt.Errorf("make a folder to work in: %w", err)
	}
	return dir, nil
}

// jobConfig is the configuration of a customize job made of the flags.
func (f *customizeFlags) jobConfig() (Config, error) {
	cfg, err := f.config()
	if err != nil {
		return cfg, err
	}
	cfg.Action, cfg.Role = agent.Customize, roleStandalone
	cfg.ImageRootParent = f.work
	cfg.SSHJail = "False"
	if f.ssh != "" && f.jail {
		cfg.SSHJail = "True"
	}
	cfg.Script, err = absolute(f.script)
	if err != nil {
		return cfg, err
	}
	f.keys, err = absolute(f.keys)
	return cfg, err
}

// absolute is filepath.Abs for a path that may be empty.
func absolute(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	return filepath.Abs(path)
}

func (f *customizeFlags) customize(ctx context.Context, s streams, j *job) error {
	standalone, err := j.standalone(f.pack)
	if err != nil {
		return err
	}
	if f.ssh == "" {
		f.scriptDecides(j, standalone.Environment)
	} else {
		j.server.listen, j.server.keys, j.server.hostKeys = f.ssh, f.keys, filepath.Join(varDir, "host-keys")
	}
	result, err := standalone.Run(ctx)
	if err != nil {
		return err
	}
	switch {
	case result != nil:
		return f.print(s.out, j.cfg, *result)
	case f.scriptErr != nil:
		return fmt.Errorf("%w: %w", agent.ErrJobFailed, f.scriptErr)
	default:
		return fmt.Errorf("%w: it was marked failed", agent.ErrJobFailed)
	}
}

// scriptDecides makes the end of the script the end of the session, which has
// no SSH server.
func (f *customizeFlags) scriptDecides(j *job, e *agent.Environment) {
	script := e.Script
	e.Server, e.ScriptRequired = nobody{}, true
	e.Script = func(ctx context.Context) error {
		if script == nil {
			return usagef("--script: %s is empty", f.script)
		}
		if f.scriptErr = script(ctx); f.scriptErr != nil {
			return f.scriptErr
		}
		return j.marks.User.Create(string(marker.Complete))
	}
}

// nobody is a server that lets nobody in.
type nobody struct{}

func (nobody) Start(context.Context) error            { return nil }
func (nobody) Shutdown(context.Context, string) error { return nil }
