package session

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"buildenv/internal/wording"
)

// session is one session channel. The goroutine of serve owns the fields above
// mu; they do not change once a job has started.
type session struct {
	*Login
	number  int32 // counts the connection's sessions
	channel *metered
	watcher Watcher // nil for none
	out     *output
	close   func()          // closes the channel; its place counts as free just before the client sees that
	ctx     context.Context // ends with the channel
	cancel  context.CancelFunc
	env     clientEnv
	tty     *terminal // nil for none
	term    string    // the terminal's type
	started bool
	agent   bool // the job shall have the client's agent
	forced  bool // the job is not what the client asked for, or a subsystem: it gets no signals

	outcome outcome // of the job; the job's goroutine only

	mu        sync.Mutex // protects the following
	process   *process   // nil until a process runs
	size      window     // the terminal's
	recording *recording // the terminal's, nil for none
}

// request is what the client wants to run.
type request struct {
	kind      string // shell, exec or subsystem
	command   string // "" for a shell
	subsystem string // its name, "" for others
}

func newSession(l *Login, accepted ssh.Channel) *session {
	ctx, cancel := context.WithCancel(context.Background())
	channel := &metered{Channel: accepted}
	return &session{
		Login:   l,
		number:  l.served.Add(1),
		channel: channel,
		out:     &output{channel: channel},
		close: sync.OnceFunc(func() {
			l.open.Add(-1)
			channel.Close()
		}),
		ctx:    ctx,
		cancel: cancel,
		env:    clientEnv{accept: l.Policy.AcceptEnv},
	}
}

// serve answers requests until the channel is closed by either side. The reply
// comes before the job starts, so that no output overtakes it.
func (s *session) serve(requests <-chan *ssh.Request) {
	defer s.close()
	defer s.cancel()
	for r := range requests {
		ok, start := s.handle(r.Type, r.Payload)
		if r.WantReply {
			r.Reply(ok, nil)
		}
		if start != nil {
			go start()
		}
	}
	if !s.started {
		s.release()
	}
}

// release closes the terminal's other end. It belongs to the job, and to
// nobody if none has started.
func (s *session) release() {
	if s.tty != nil {
		s.tty.slave.Close()
	}
}

// handle decides one request. It never blocks. start, when there is one, is what
// follows the reply: the job, or what may end it, as nothing can be said after its end.
func (s *session) handle(kind string, payload []byte) (ok bool, start func()) {
	switch kind {
	case "shell", "exec", "subsystem":
		return s.begin(kind, payload)
	case "env":
		return s.setEnv(payload), nil
	case "pty-req":
		return s.allocate(payload), nil
	case "auth-agent-req@openssh.com":
		return s.wantAgent(), nil
	case "window-change":
		return s.resize(payload), nil
	case "signal":
		return s.signal(payload), nil
	case "eow@openssh.com":
		return true, s.endOfWrite
	case "break":
		return s.sendBreak(), nil
	}
	return false, nil
}

func (s *session) setEnv(payload []byte) bool {
	var v struct{ Name, Value string }
	return !s.started && ssh.Unmarshal(payload, &v) == nil && s.env.set(v.Name, v.Value)
}

// begin accepts one job per session (RFC 4254, section 6.5).
func (s *session) begin(kind string, payload []byte) (bool, func()) {
	if s.started {
		return false, nil
	}
	wanted := request{kind: kind}
	if kind != "shell" {
		var v struct{ Value string }
		if ssh.Unmarshal(payload, &v) != nil || strings.Contains(v.Value, "\x00") {
			return false, nil
		}
		wanted.command = v.Value
	}
	if kind == "subsystem" {
		name := wanted.command
		command, known := s.Policy.Subsystems[name]
		if !known {
			s.Log.Info(fmt.Sprintf("subsystem request for %.100s by user %s failed, subsystem not found", wording.Escape(name), s.Account.Name), "from", s.Remote)
			return false, nil
		}
		wanted.command, wanted.subsystem = command, name
	}
	s.started = true
	s.forced = kind == "subsystem" || s.Policy.ForceCommand != ""
	s.notify(kind, payload)
	return true, func() { s.run(wanted) }
}

// run does what was asked for, or what is forced, to the end.
func (s *session) run(wanted request) {
	defer s.Table.enterRun()()
	defer s.contain(wanted.kind)
	actual := s.decide(wanted)
	s.Log.Log(s.ctx, LevelVerbose, s.announcement(actual, wanted))
	s.auditStart(actual, wanted)
	defer s.auditEnd(time.Now())
	defer s.stopRecording()
	defer s.close() // also after a panic
	defer s.release()
	if notice, turned := turnedAway(noLogins, s.Account.UID); turned {
		s.turnAway(notice)
		return
	}
	if s.forced && isInternalSFTP(actual.command) {
		s.serveSFTP(actual)
		return
	}
	s.runHere(actual, wanted)
}

// decide is what runs instead of what is wanted, if anything is forced.
func (s *session) decide(wanted request) request {
	actual := wanted
	if s.Policy.ForceCommand != "" {
		actual.command = s.Policy.ForceCommand
		if actual.kind == "shell" {
			actual.kind = "exec"
		}
	}
	return actual
}

// runHere looks around, then runs a process or a command of the server's own.
func (s *session) runHere(actual, wanted request) {
	where, err := s.survey(wanted)
	defer s.removeAuthInfo(where.authInfo)
	if err := s.record(where.shell); err != nil {
		s.fail(failure{text: "this terminal has to be recorded, which is not possible now: " + wording.Reason(err), exit: exitRefused})
		return
	}
	if !s.forced && actual.kind == "exec" && s.mayRunAnything() && s.runBuiltin(actual.command) {
		return
	}
	if err != nil {
		s.Log.Error("session cannot start", "error", err, "from", s.Remote)
		s.fail(failure{text: err.Error(), exit: exitNoSession})
		return
	}
	if job, ok := s.scpHere(where, actual); ok {
		s.serveSCP(job)
		return
	}
	if s.agent {
		where.agent = s.agentSocket()
	}
	s.runProcess(where, actual, wanted)
}

// wantAgent notes that the client lends its agent (OpenSSH PROTOCOL.agent; there
// is nothing in the request).
func (s *session) wantAgent() bool {
	if s.started || s.Agent == nil || !s.Agent.AllowAgent() {
		return false
	}
	s.agent = true
	return true
}

// agentSocket is "" when there can be none: as with sshd the job does without.
func (s *session) agentSocket() string {
	socket, err := s.Agent.Agent()
	if err != nil {
		s.Log.Warn("session without SSH_AUTH_SOCK", "error", err, "from", s.Remote)
	}
	return socket
}

// announcement is sshd's line about a session that starts. The text of a command
// that the client chose is private; a forced one is the administrator's.
func (s *session) announcement(actual, wanted request) string {
	text := map[string]string{"shell": "shell", "exec": "command", "subsystem": fmt.Sprintf("subsystem '%.900s'", wording.Escape(wanted.subsystem))}[wanted.kind]
	switch {
	case s.Policy.ForceCommand != "" && s.Policy.ForcedByKey:
		text = fmt.Sprintf("forced-command (key-option) '%.900s'", wording.Escape(actual.command))
	case s.Policy.ForceCommand != "":
		text = fmt.Sprintf("forced-command (config) '%.900s'", wording.Escape(actual.command))
	}
	if s.tty != nil {
		text += " on " + strings.TrimPrefix(s.tty.name, "/dev/")
	}
	remote, port := Endpoint(s.Remote)
	return fmt.Sprintf("Starting session: %s for %s from %s port %d id %d", text, s.Account.Name, remote, port, s.number-1)
}

// signal passes a signal on to the process group of the job (RFC 4254, section 6.9).
func (s *session) signal(payload []byte) bool {
	var v struct{ Name string }
	if ssh.Unmarshal(payload, &v) != nil || s.forced {
		return false
	}
	number, known := signals[v.Name]
	p := s.running()
	return known && p != nil && p.signal(number)
}

// endOfWrite is the client's "send no more output" (OpenSSH PROTOCOL, section
// 2.1): the job then sees a closed pipe.
func (s *session) endOfWrite() {
	defer s.contain("eow@openssh.com")
	if p := s.running(); p != nil {
		p.closeOutput()
	}
}

func (s *session) running() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process
}
