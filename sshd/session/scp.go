package session

import (
	"context"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"syscall"

	"buildenv/sshd/jail"
	"buildenv/sshd/scp"
	"buildenv/sshd/sftp"
)

// plainShells are those that run any command they are given. Another one may be
// there to refuse (nologin, false, rbash, a menu), which is its to decide, also
// where it is missing.
var plainShells = []string{"sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "csh", "tcsh", "fish"}

func isPlain(shell string) bool { return slices.Contains(plainShells, path.Base(shell)) }

// mayRunAnything is whether the account's own shell, if it names one, is plain.
func (l *Login) mayRunAnything() bool { return l.Account.Shell == "" || isPlain(l.Account.Shell) }

// scpHere is the scp that this server has to be itself: one that the account's
// shell would run, if there were a shell, and a program scp that can be started.
// In every other case the command is the shell's, as with sshd. A search path that
// the shell makes itself, of its user's ~/.bashrc, is not known here.
func (s *session) scpHere(where place, actual request) (job scpJob, ok bool) {
	if actual.kind != "exec" || s.tty != nil || !isPlain(where.shell) {
		return scpJob{}, false
	}
	command, ok := scp.Parse(actual.command)
	if !ok {
		return scpJob{}, false
	}
	umask, ok := s.maySCP(command)
	if !ok || s.shellCanRun(where, command.Program) {
		return scpJob{}, false
	}
	return scpJob{command, where.directory, umask}, true
}

func (s *session) shellCanRun(where place, program string) bool {
	return where.shellErr == nil && s.canStart(where, program) && s.canStart(where, where.shell)
}

// scpJob is an scp of the server's own.
type scpJob struct {
	scp.Command
	directory string
	umask     int
}

// maySCP allows what a client could do by the server's own sftp, with that
// umask: where there is no shell, sftp's options are all that an administrator
// has had to think of. Commands that are forced are the administrator's.
func (s *session) maySCP(c scp.Command) (umask int, ok bool) {
	if s.Policy.ForceCommand != "" {
		return defaultUmask, true
	}
	subsystem := s.Policy.Subsystems["sftp"]
	if !isInternalSFTP(subsystem) {
		return 0, false
	}
	o, err := sftp.ParseOptions(strings.Fields(subsystem)[1:])
	if err != nil || o.ReadOnly && c.Sink || o.Allowed != nil || o.Denied != nil {
		return 0, false
	}
	if o.Umask != nil {
		return *o.Umask, true
	}
	return defaultUmask, true
}

// canStart asks the kernel, which alone knows about loaders, architectures and
// emulators: a program that starts is killed at once.
func (s *session) canStart(where place, program string) bool {
	env := s.environ(where, nil)
	for _, file := range s.findProgram(where.directory, program, env) {
		cmd := &exec.Cmd{Path: file, Args: []string{program}, Dir: where.directory, Env: env,
			SysProcAttr: &syscall.SysProcAttr{Chroot: s.Jail, Setsid: true}}
		if cmd.Start() == nil {
			cmd.Process.Kill()
			cmd.Wait() // its end says nothing
			return true
		}
	}
	return false
}

// findProgram are the files that a shell would try to run, in order.
func (s *session) findProgram(directory, program string, env environment) []string {
	candidates := []string{path.Join(directory, program)}
	switch {
	case path.IsAbs(program):
		candidates[0] = program
	case !strings.Contains(program, "/"):
		candidates = inPath(env, program)
	}
	var found []string
	s.within(func() error {
		for _, file := range candidates {
			if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				found = append(found, file)
			}
		}
		return nil
	})
	return found
}

func inPath(env environment, program string) []string {
	var files []string
	for _, entry := range env {
		if list, ok := strings.CutPrefix(entry, "PATH="); ok {
			for dir := range strings.SplitSeq(list, ":") {
				if path.IsAbs(dir) {
					files = append(files, path.Join(dir, program))
				}
			}
		}
	}
	return files
}

// serveSCP runs the job inside this process.
func (s *session) serveSCP(job scpJob) {
	s.Log.Log(s.ctx, LevelVerbose, "scp: there is no such program that could run, the server does its work", "from", s.Remote)
	status := 0
	var err error
	ending := s.runInside(nil, func(i *inside) { status, err = s.scp(i, job) })
	switch {
	case ending != nil:
		s.fail(notStarted(job.Program, true, s.Jail != "", ending))
	case err != nil:
		s.fail(failure{text: err.Error(), exit: exitNoSession})
	default:
		s.sendExitStatus(status)
		s.out.closeWrite()
	}
}

// scp enters the jail and stays until the client is done. It waits for nothing
// but the client, so closing the channel ends it.
func (s *session) scp(i *inside, job scpJob) (status int, err error) {
	root, err := jail.Enter(s.Jail, job.umask)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	stop := context.AfterFunc(i.ctx, s.close)
	defer stop()
	_, stderr := s.streams()
	return job.Run(s.stream(), root, scp.Options{
		Home: s.Account.Home, Directory: job.directory, Umask: job.umask, Stderr: stderr, Audit: s.Audit.With("session", s.number),
	}), nil
}
