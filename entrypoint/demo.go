package entrypoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"buildenv/agent"
	"buildenv/artifacts"
	"buildenv/artifacts/source"
	"buildenv/internal/execx"
)

func newDemoCommand(s streams) *cobra.Command {
	dir := ""
	c := &cobra.Command{
		Use:   "demo",
		Short: "Do a whole job on this machine: sample root, SSH session, packaged image",
		Long: `Makes a small image root of programs of this machine, opens it to SSH users in a
jail, logs in with the real ssh and sftp clients to change it, marks it complete
and packages it. Everything it makes is in the folder that it prints. Needs root,
ssh and sftp.`,
		Example: "  buildenv demo\n  buildenv demo --dir /srv/demo",
		Args:    args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			d := &demo{streams: s, dir: dir, begin: time.Now()}
			return d.run(c.Context())
		},
	}
	c.Flags().StringVar(&dir, "dir", "buildenv-demo", "folder for the image and the log")
	return c
}

// demo is one demonstration.
type demo struct {
	streams
	dir   string // where the results stay
	work  string // where the job works, removed at the end
	begin time.Time
}

// say tells the next step, with the seconds since the beginning.
func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.out, "[%4.1fs] %s\n", time.Since(d.begin).Seconds(), fmt.Sprintf(format, args...))
}

func (d *demo) run(ctx context.Context) (err error) {
	if err := d.checkMachine(); err != nil {
		return err
	}
	if d.dir, err = filepath.Abs(d.dir); err != nil {
		return err
	}
	if d.work, err = workDir(); err != nil {
		return err
	}
	log, err := d.openLog()
	if err != nil {
		return err
	}
	defer log.Close()
	defer removeWork(d.work, slog.New(slog.NewTextHandler(d.err, nil)))
	d.say("making a sample image root of this machine's programs")
	sample := d.in("sample")
	if err := makeSampleRoot(sample); err != nil {
		return fmt.Errorf("make a sample root: %w", err)
	}
	before, err := listTree(sample)
	if err != nil {
		return err
	}
	result, err := d.job(ctx, sample, log)
	if err != nil {
		return fmt.Errorf("%w; the job's log is %s", err, log.Name())
	}
	after, err := listTree(d.in("parent/" + imageRoot))
	if err != nil {
		return err
	}
	return d.show(result, changes(before, after), log.Name())
}

func (d *demo) in(name string) string { return filepath.Join(d.work, name) }

// checkMachine tells what the machine lacks before anything is begun.
func (d *demo) checkMachine() error {
	if os.Geteuid() != 0 {
		return errors.New("demo: needs root, to jail the session in the image root: sudo make demo")
	}
	for tool, where := range map[string]string{"ssh": "openssh-client", "sftp": "openssh-client"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("demo: %s is not installed: apt-get install %s", tool, where)
		}
	}
	return nil
}

func (d *demo) openLog() (*os.File, error) {
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return nil, err
	}
	return os.Create(filepath.Join(d.dir, "job.log"))
}

// job customizes the sample with real SSH clients in the role of the user.
func (d *demo) job(ctx context.Context, sample string, logFile io.Writer) (*agent.Result, error) {
	if err := makeKey(d.in("id_ed25519")); err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	f := customizeFlags{from: sample, ssh: "127.0.0.1:0", keys: d.in("id_ed25519.pub"), work: d.in("parent"), jail: true}
	f.name, f.to = "demo", "file://"+d.dir
	cfg, err := f.jobConfig()
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(logFile, nil))
	release, err := claim(&cfg)
	if err != nil {
		return nil, err
	}
	defer release()
	d.say("preparing the job: the root is copied to %s", cfg.ImageRootParent)
	if err := prepare(ctx, streams{err: logFile}, log, cfg, source.ModeUnpack, sample); err != nil {
		return nil, err
	}
	j, err := newJob(cfg, log, logFile)
	if err != nil {
		return nil, err
	}
	defer j.server.Close()
	j.server.listen, j.server.keys, j.server.hostKeys = f.ssh, f.keys, d.work
	standalone, err := j.standalone(artifacts.PackOptions{})
	if err != nil {
		return nil, err
	}
	return d.runWithUser(ctx, j, standalone)
}

// runWithUser runs the job and, once its server listens, the user's commands. A
// user who fails ends the job.
func (d *demo) runWithUser(ctx context.Context, j *job, standalone *agent.Standalone) (*agent.Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Status tells the moment when the server listens.
	status := standalone.Status
	user := make(chan error, 1)
	standalone.Status = func(s artifacts.Status) {
		status(s)
		switch s {
		case artifacts.StatusWaiting:
			go func() {
				err := d.user(ctx, j)
				if err != nil {
					cancel(err)
				}
				user <- err
			}()
		case artifacts.StatusPackaging:
			d.say("packaging: squashfs, kernel, initrd, manifest")
		}
	}
	result, err := standalone.Run(ctx)
	if err == nil && result == nil {
		err = agent.ErrJobFailed
	}
	if err != nil {
		return nil, err
	}
	return result, <-user
}

// user is somebody with a key and the OpenSSH clients.
func (d *demo) user(ctx context.Context, j *job) error {
	if err := os.WriteFile(d.in("upload.conf"), []byte("installed by sftp\n"), 0o644); err != nil {
		return err
	}
	batch := fmt.Sprintf("put %s /etc/upload.conf\nchmod 600 /etc/upload.conf\n", d.in("upload.conf"))
	for _, step := range []struct {
		say, stdin string
		argv       []string
	}{
		{"logging in over SSH, jailed in the image root", "", []string{"ssh",
			"pwd; ls -l /etc; echo $IMS_ARCH; echo 'customized over ssh' > /etc/motd; mkdir -p /opt/app && echo '#!/bin/sh' > /opt/app/run && chmod 755 /opt/app/run && ln -s /opt/app/run /usr/bin/app"}},
		{"uploading a file over SFTP", batch, []string{"sftp"}},
		{"marking the work complete", "", []string{"ssh", "buildenv complete"}},
	} {
		d.say("%s", step.say)
		if err := d.client(ctx, j, step.argv, step.stdin); err != nil {
			return err
		}
	}
	return nil
}

// client runs an SSH client against the job's server and shows what it prints.
func (d *demo) client(ctx context.Context, j *job, argv []string, stdin string) error {
	host, port, err := j.server.address()
	if err != nil {
		return err
	}
	options := []string{"-F", "none", "-i", d.in("id_ed25519"), "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=" + d.in("known_hosts"), "-o", "Port=" + port}
	if argv[0] == "sftp" {
		options = append(options, "-q", "-b", "-")
	}
	cmd := exec.Command(argv[0], append(append(options, "root@"+host), argv[1:]...)...)
	if stdin != "" {
		cmd.Stdin = strings.NewReader(stdin)
	}
	d.say("  $ %s root@%s %s", argv[0], host, strings.Join(argv[1:], " "))
	var said bytes.Buffer
	err = execx.RunLines(ctx, cmd, func(line string) {
		fmt.Fprintf(&said, "%s\n", line)
		fmt.Fprintf(d.out, "          %s\n", line)
	})
	if err != nil {
		return fmt.Errorf("%s: %w: %s", argv[0], err, strings.TrimSpace(said.String()))
	}
	return nil
}

// show tells what came out.
func (d *demo) show(result *agent.Result, changed []string, logFile string) error {
	d.say("done: image %s, %d bytes", result.Image.ID, result.SizeBytes)
	fmt.Fprintln(d.out, "\nWhat changed in the image root:")
	for _, line := range changed {
		fmt.Fprintln(d.out, "  "+line)
	}
	manifest, err := result.Manifest.Encode()
	if err != nil {
		return err
	}
	image := filepath.Join(d.dir, defaultBucket, result.Image.ID)
	fmt.Fprintf(d.out, "\nThe manifest:\n%s\n\nWhere everything is:\n", manifest)
	for _, line := range [][2]string{
		{"image", image},
		{"archive", filepath.Join(image, artifacts.RootFS.ObjectName()) + "   (mount -o loop, or unsquashfs -ll)"},
		{"records", filepath.Join(d.dir, "ims")},
		{"log", logFile},
	} {
		fmt.Fprintf(d.out, "  %-9s%s\n", line[0], line[1])
	}
	return nil
}
