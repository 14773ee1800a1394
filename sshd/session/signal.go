package session

import (
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// signals are the names of RFC 4254, section 6.10.
var signals = map[string]unix.Signal{
	"ABRT": unix.SIGABRT, "ALRM": unix.SIGALRM, "FPE": unix.SIGFPE, "HUP": unix.SIGHUP,
	"ILL": unix.SIGILL, "INT": unix.SIGINT, "KILL": unix.SIGKILL, "PIPE": unix.SIGPIPE,
	"QUIT": unix.SIGQUIT, "SEGV": unix.SIGSEGV, "TERM": unix.SIGTERM, "USR1": unix.SIGUSR1,
	"USR2": unix.SIGUSR2,
}

// signalName is the name of a signal on the wire. Signals that the protocol
// has no name for are called as OpenSSH calls them.
func signalName(number unix.Signal) string {
	for name, n := range signals {
		if n == number {
			return name
		}
	}
	return "SIG@openssh.com"
}

// sendExitStatus tells how a job ended (RFC 4254, section 6.10).
func (s *session) sendExitStatus(status int) {
	s.sendExit(outcome{known: true, status: status})
}

// sendExit tells how a process ended: its status, or the signal that killed it.
func (s *session) sendExit(o outcome) {
	s.outcome = o
	if o.signal == "" {
		s.channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(o.status)}))
		return
	}
	s.channel.SendRequest("exit-signal", false, ssh.Marshal(struct {
		Name              string
		Core              bool
		Message, Language string
	}{Name: o.signal, Core: o.core}))
}
