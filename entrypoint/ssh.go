package entrypoint

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"

	"buildenv/agent/marker"
	"buildenv/internal/fsx"
	"buildenv/sshd"
	"buildenv/sshd/sshdconfig"
)

// sidecarConfig is the configuration that the sidecar writes, for a build
// environment that has none. Keys may also lie where the pod mounts them; who
// owns a file that is mounted says nothing in a container.
const sidecarConfig = `Port 22
LogLevel INFO
PermitRootLogin yes
PubkeyAuthentication yes
AuthorizedKeysFile /etc/cray/ims/authorized_keys /etc/cray/authorized_keys
StrictModes no
PrintMotd no
PasswordAuthentication no
Subsystem sftp internal-sftp
`

// ownConfig serves a job that was given an address and a file of keys.
const ownConfig = `ListenAddress %s
PermitRootLogin yes
AuthorizedKeysFile "%s"
StrictModes no
PrintMotd no
PasswordAuthentication no
Subsystem sftp internal-sftp
`

// sshServer is the SSH server of a job. Its configuration is read when it
// starts, not before: the sidecar writes it just before it says ready.
type sshServer struct {
	job          *job
	listen, keys string // address and authorized_keys; "" for what SSHD_OPTIONS says
	hostKeys     string // folder of the default host keys; "" for sshd's
	server       *sshd.Server
	files        []*logFile // of logs
}

// Start reads the configuration and opens the doors.
func (s *sshServer) Start(ctx context.Context) error {
	tuneMemory()
	cl, err := sshdconfig.ParseCommandLine(strings.Fields(s.job.cfg.SSHDOptions))
	if err != nil {
		return fmt.Errorf("SSHD_OPTIONS: %w", err)
	}
	if cl.Test || cl.TestExtended || cl.Dump || cl.Version || cl.Inetd {
		return errors.New("SSHD_OPTIONS: an option among -t -T -G -V -i asks for something other than a server")
	}
	config, err := s.config(cl)
	if err != nil {
		return err
	}
	log, err := s.openLog(cl.LogFile)
	if err != nil {
		return err
	}
	for _, warning := range config.Warnings() {
		log.Warn(warning)
	}
	audit, err := s.audit()
	if err != nil {
		return err
	}
	if s.server, err = sshd.New(sshd.Config{
		Settings:     config,
		HostKeyDir:   s.hostKeys,
		LoginMessage: s.job.loginMessage(),
		TimeZone:     os.Getenv("TZ"),
		Builtin:      s.job.builtin,
		Audit:        audit,
		Recordings:   s.job.cfg.recordings(),
		Log:          log,
	}); err != nil {
		return err
	}
	return s.server.Start(ctx)
}

// config is the effective configuration. The job's part of it is added in
// memory: a file that belongs to the site stays as it is.
func (s *sshServer) config(cl sshdconfig.CommandLine) (*sshdconfig.Config, error) {
	overlay := sshdconfig.Overlay{SetEnv: s.job.cfg.sessionEnv()}
	if s.job.cfg.jailed() {
		overlay.ChrootDirectory = s.job.root
	}
	var text []byte
	switch {
	case s.listen != "":
		text = fmt.Appendf(nil, ownConfig, s.listen, s.keys)
	case cl.ConfigFile == "" && s.job.cfg.SSHDConfigFile != "":
		cl.ConfigFile = s.job.cfg.SSHDConfigFile
	case cl.ConfigFile == "":
		text = []byte(sidecarConfig)
	}
	return sshdconfig.Load(cl, text, overlay)
}

// openLog sends the server's messages to the log, and to the file that the
// option -E names.
func (s *sshServer) openLog(path string) (*slog.Logger, error) {
	if path == "" {
		return s.job.log, nil
	}
	f, err := openLogFile(path)
	if err != nil {
		return nil, fmt.Errorf("SSHD_OPTIONS: %w", err)
	}
	s.files = append(s.files, f)
	return slog.New(slog.NewMultiHandler(s.job.log.Handler(), messageLog{f})), nil
}

// audit is what users do: in a file of its own, or with the job's log.
func (s *sshServer) audit() (*slog.Logger, error) {
	if err := s.job.cfg.auditOutside(s.job.root); err != nil {
		return nil, err
	}
	f, err := s.job.cfg.auditFile()
	if err != nil {
		return nil, err
	}
	if f == nil {
		return s.job.log, nil
	}
	s.files = append(s.files, f)
	return sshd.NewAudit(f), nil
}

// Shutdown ends the sessions.
func (s *sshServer) Shutdown(ctx context.Context, reason string) error {
	if s.server == nil {
		return nil
	}
	return s.server.Shutdown(ctx, reason)
}

// Close cuts what connections are left.
func (s *sshServer) Close() error {
	var problems []error
	if s.server != nil {
		problems = append(problems, s.server.Close())
	}
	for _, f := range s.files {
		problems = append(problems, f.Close())
	}
	return errors.Join(problems...)
}

// address is the first one that the server listens on.
func (s *sshServer) address() (host, port string, err error) {
	addrs := s.server.Addrs()
	if len(addrs) == 0 {
		return "", "", errors.New("the ssh server does not listen")
	}
	return net.SplitHostPort(addrs[0].String())
}

// loginMessage tells a user at a terminal where he is and how to finish.
func (j *job) loginMessage() string {
	where := "You are not jailed; the image root is " + j.root + "."
	if j.cfg.jailed() {
		where = "You are jailed in the image root: / is the image."
	}
	id := ""
	if j.cfg.JobID != "" {
		id = " " + j.cfg.JobID
	}
	return fmt.Sprintf(`buildenv: %s job%s for %s. %s
  When the work is good:   touch %s
  To throw it away:        touch %s
`, j.cfg.Action, id, j.cfg.Arch, where, j.userPath(marker.Complete), j.userPath(marker.Failed))
}

// userPath is a marker's path as the user sees it.
func (j *job) userPath(name marker.Name) string {
	if j.cfg.jailed() {
		return filepath.Join("/", tmp, string(name))
	}
	return filepath.Join(j.cfg.ImageRootParent, string(name))
}

// builtin answers the commands that end or show the job when a user sends them
// as they are: a jail has no buildenv in it.
func (j *job) builtin(_ context.Context, command string, _ io.Reader, stdout, stderr io.Writer) (handled bool, exit int) {
	job := &foundJob{j.cfg.ImageRootParent, j.description(), j.state, j.marks}
	var err error
	switch strings.Join(strings.Fields(command), " ") {
	case "buildenv complete":
		err = job.end(stdout, marker.Complete)
	case "buildenv fail":
		err = job.end(stdout, marker.Failed)
	case "buildenv status":
		err = job.show(stdout, false)
	case "buildenv status --json":
		err = job.show(stdout, true)
	default:
		return false, 0
	}
	return true, report(stderr, err)
}

// makeKey writes a new ed25519 key pair to path and path.pub, in OpenSSH's format.
func makeKey(path string) error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(private, "buildenv demo")
	if err != nil {
		return err
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return err
	}
	return errors.Join(
		fsx.WriteFile(path, pem.EncodeToMemory(block), 0o600),
		fsx.WriteFile(path+".pub", ssh.MarshalAuthorizedKey(key), 0o644))
}
