package session

import (
	"context"
	"os"
	"os/exec"
	"path"
	"syscall"

	"golang.org/x/sys/unix"
)

// Files of commands that run before a job (sshd(8), SSHRC), the second one for
// whoever has not the first. Both are the jail's.
const (
	userRC   = ".ssh/rc" // in the home directory
	systemRC = "/etc/ssh/sshrc"
)

// findRC is the command that runs before a job, nil for none. It runs inside the
// jail. An administrator's forced command and a subsystem do not see the user's file.
func (l *Login) findRC(shell string, forJob request) []string {
	file := path.Join(l.Account.Home, userRC)
	mine := l.Policy.PermitUserRC && forJob.kind != "subsystem" && (l.Policy.ForceCommand == "" || l.Policy.ForcedByKey)
	if mine && exists(file) {
		return []string{shell, "-c", "/bin/sh " + file}
	}
	if exists(systemRC) {
		return []string{"/bin/sh", systemRC}
	}
	return nil
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// runRC runs a command before a job, with the job's outputs and environment. It
// is a job of its own, without a controlling terminal: the first process that
// has it would take it along when it ends. How it ends does not matter, nor
// whether it can be run at all.
func (s *session) runRC(rc []string, where place, env []string, theirs []*os.File) {
	if rc == nil {
		return
	}
	p := newProcess(&exec.Cmd{
		Path: rc[0], Args: rc, Dir: where.directory, Env: env, Stdout: theirs[1], Stderr: theirs[2],
		SysProcAttr: &syscall.SysProcAttr{Chroot: s.Jail, Setsid: true},
	})
	if err := s.Table.start(p, p.cmd.Start); err != nil {
		return
	}
	defer s.Table.forget(p)
	if s.tty != nil {
		hangUp := context.AfterFunc(s.ctx, func() { p.signal(unix.SIGHUP) })
		defer hangUp()
	}
	p.wait()
}
