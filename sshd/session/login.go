package session

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"sync/atomic"

	"golang.org/x/crypto/ssh"
)

// LevelVerbose is sshd's VERBOSE, between INFO and DEBUG (sshd_config(5), LogLevel).
const LevelVerbose = slog.LevelInfo - 2

// Policy is what the sessions of a login may do. sshd_config(5) and the
// options of the key in authorized_keys (sshd(8)) decide it.
type Policy struct {
	AcceptEnv    []string          // patterns of names that the client may set
	Environment  []string          // NAME=value from the key's environment= options, already permitted
	SetEnv       []string          // NAME=value, wins over everything the client or the key says
	PermitTTY    bool              // whether a terminal may be allocated
	ForceCommand string            // runs whatever the client asked for, "" for none
	ForcedByKey  bool              // ForceCommand is the key's command= option, not the configuration's
	Subsystems   map[string]string // name → command; internal-sftp is the server's own
	MaxSessions  int               // channels open at one time

	UserEnvironment string // list of patterns: names that ~/.ssh/environment may set; "" for none
	PermitUserRC    bool   // whether ~/.ssh/rc runs before the job
}

// Builtin answers a command that the server knows itself, so that it works
// where no such program is installed. It says whether it did, and the exit
// status. It must return soon after ctx ends.
type Builtin func(ctx context.Context, command string, stdin io.Reader, stdout, stderr io.Writer) (handled bool, exit int)

// Agent lends jobs the client's authentication agent.
type Agent interface {
	// AllowAgent reports whether the client may ask for that. It does not wait.
	AllowAgent() bool
	// Agent makes the socket on which the agent answers, unless it is there
	// already, and gives its path, one inside the jail.
	Agent() (socket string, err error)
}

// Recordings says where what is seen on terminals is recorded.
type Recordings struct {
	Dir      string // one asciicast file for each terminal; "" for none
	Required bool   // no recording, no terminal
}

// Login is an authenticated connection. Its fields are set before the first
// call of Serve and not changed after.
type Login struct {
	Account       Account
	Policy        Policy
	Jail          string         // root directory of the sessions, "" for the server's own
	Remote, Local netip.AddrPort // the client's and the server's end
	Greeting      string         // shown when a shell starts on a terminal, "" for none
	TimeZone      string         // TZ of the sessions, "" for none
	AuthInfo      string         // what the client proved, for the file that SSH_USER_AUTH names (sshd_config(5), ExposeAuthInfo); "" for no file
	Agent         Agent          // nil for none
	Builtin       Builtin        // nil for none
	Connection    int64          // its number in the audit log, for the names of recordings
	Recordings    Recordings
	Table         *Table
	Log           *slog.Logger
	Audit         *slog.Logger // what the client does; its records name the connection

	open, served atomic.Int32 // sessions, now and ever
}

// Serve answers one "session" channel until it is closed. It may run in many
// goroutines at once. A panic in it ends this session, not the server.
func (l *Login) Serve(newChannel ssh.NewChannel) {
	defer l.contain("session")
	if int(l.open.Add(1)) > l.Policy.MaxSessions {
		l.open.Add(-1)
		l.Log.Info("no more sessions on this connection", "from", l.Remote, "maxsessions", l.Policy.MaxSessions)
		newChannel.Reject(ssh.ConnectionFailed, "open failed")
		return
	}
	channel, requests, err := newChannel.Accept()
	if err != nil {
		l.open.Add(-1)
		return // the connection is gone
	}
	s := newSession(l, channel)
	s.watcher, _ = channel.(Watcher)
	s.serve(requests)
}

// contain is deferred at the top of every goroutine of a session: what goes
// wrong for one client must not end the environment for all.
func (l *Login) contain(what string) {
	if p := recover(); p != nil {
		l.Log.Error("panic contained", "in", what, "from", l.Remote, "panic", p, "stack", string(debug.Stack()))
	}
}
