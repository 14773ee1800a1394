package session

import (
	"context"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// session is one session channel. The goroutine of serve owns the fields above
// mu; they do not change once a job has started.
type session struct {
	*Login
	channel ssh.Channel
	watcher Watcher // nil for none
	out     *output
	close   func()          // closes the channel; its place counts as free just before the client sees that
	ctx     context.Context // ends with the channel
	cancel  context.CancelFunc
	env     clientEnv
	tty     *terminal // nil for none
	term    string    // the terminal's type
	started bool
	forced  bool // the job is not what the client asked for, or a subsystem: it gets no signals

	mu      sync.Mutex // protects the following
	process *process   // nil until a process runs
}

// request is what the client wants to run.
type request struct {
	kind    string // shell, exec or subsystem
	command string // "" for a shell
}

func newSession(l *Login, channel ssh.Channel) *session {
	ctx, cancel := context.WithCancel(context.Background())
	return &session{
		Login:   l,
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
	case "window-change":
		return s.resize(payload), nil
	case "signal":
		return s.signal(payload), nil
	case "eow@openssh.com":
		return true, s.endOfWrite
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
		if ssh.Unmarshal(payload, &v) != nil {
			return false, nil
		}
		wanted.command = v.Value
	}
	if kind == "subsystem" {
		command, known := s.Policy.Subsystems[wanted.command]
		if !known {
			s.Log.Info("subsystem request refused: not configured", "subsystem", wanted.command, "from", s.Remote)
			return false, nil
		}
		wanted.command = command
	}
	s.started = true
	s.forced = kind == "subsystem" || s.Policy.ForceCommand != ""
	s.notify(kind, payload)
	return true, func() { s.run(wanted) }
}

// run does what was asked for, or what is forced, to the end.
func (s *session) run(wanted request) {
	defer s.contain(wanted.kind)
	defer s.close() // also after a panic
	defer s.release()
	actual := wanted
	if s.Policy.ForceCommand != "" {
		actual.command = s.Policy.ForceCommand
		if actual.kind == "shell" {
			actual.kind = "exec"
		}
	}
	s.Log.Log(s.ctx, LevelVerbose, "Starting session: "+describe(actual, wanted, s.tty), "user", s.Account.Name, "from", s.Remote)
	switch {
	case isInternalSFTP(actual.command) && s.forced:
		s.serveSFTP(actual)
	case s.forced || actual.kind != "exec" || !s.runBuiltin(actual.command):
		s.runProcess(actual, wanted)
	}
}

// describe names a session for the log as sshd does. The text of a command
// that the client chose is private; a forced one is the administrator's.
func describe(actual, wanted request, tty *terminal) string {
	text := map[string]string{"shell": "shell", "exec": "command", "subsystem": "subsystem"}[wanted.kind]
	if actual != wanted {
		text = "forced-command '" + actual.command + "'"
	}
	if tty != nil {
		text += " on " + strings.TrimPrefix(tty.name, "/dev/")
	}
	return text
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
