package forward

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// Types of channels: the first two are what Open serves, the others are opened by
// us (RFC 4254, section 7.2; OpenSSH PROTOCOL, section 2.4).
const (
	LocalTCP     = "direct-tcpip"
	LocalSocket  = "direct-streamlocal@openssh.com"
	remoteTCP    = "forwarded-tcpip"
	remoteSocket = "forwarded-streamlocal@openssh.com"
	AgentChannel = "auth-agent@openssh.com"
)

// Bounds on what one connection may have open at a time. OpenSSH's clients need
// a handful; a browser behind ssh -D opens a few hundred.
const (
	maxTunnels = 1024
	maxBounds  = 64
)

// dialPatience bounds how long a connection may take to be made: as long as
// Linux tries by itself.
const dialPatience = 127 * time.Second

// Config is what a Forwarder is made of.
type Config struct {
	Policy       Policy
	Root         string // where paths of sockets begin: the image root of a jailed user, "" for the server's own
	Family       string // AddressFamily: inet, inet6, or anything else for both
	GatewayPorts string // no, yes or clientspecified
	SocketMask   int    // StreamLocalBindMask
	SocketUnlink bool   // StreamLocalBindUnlink
	From         string // "A port P" of the client, as sshd's log has it
	Log          *slog.Logger
	Audit        *slog.Logger // names the connection
}

// Client is the other end of the SSH connection; an *ssh.ServerConn is one.
type Client interface {
	OpenChannel(name string, data []byte) (ssh.Channel, <-chan *ssh.Request, error)
}

// Forwarder forwards for one connection. Its methods may be called from any
// goroutine; after Stop they refuse.
type Forwarder struct {
	config Config
	client Client
	ctx    context.Context
	cancel context.CancelCauseFunc
	work   sync.WaitGroup // tunnels and listeners; they end with the connection
	starts sync.WaitGroup // bounds that are about to be

	agentMu sync.Mutex // protects the following; taken before mu
	agent   string     // path of the agent's socket, "" as long as there is none

	mu       sync.Mutex // protects the following
	stopped  bool       // nothing is added to work and starts any more
	tunnels  int        // open, or about to be
	bounds   []*bound
	starting int // as starts
}

// Reasons for the end of tunnels.
var (
	errStopped = errors.New("the connection ends")
	errTooMany = errors.New("too many at a time")
)

// New makes a Forwarder for a client that has authenticated. Close it.
func New(c Config, client Client) *Forwarder {
	f := &Forwarder{config: c, client: client}
	f.ctx, f.cancel = context.WithCancelCause(context.Background())
	return f
}

// Stop ends forwarding as far as this machine can see: nobody listens any more,
// no socket is left in the image root, and connections are closed. It does not
// wait for the client.
func (f *Forwarder) Stop() {
	f.mu.Lock()
	f.stopped = true
	bounds := f.bounds
	f.bounds = nil
	f.mu.Unlock()
	f.cancel(errStopped)
	for _, b := range bounds {
		b.close()
	}
	f.starts.Wait() // what comes too late is closed there
}

// Close is Stop, and waits until nothing is left of the Forwarder. The client's
// connection must have ended.
func (f *Forwarder) Close() {
	f.Stop()
	f.work.Wait()
}

// enter makes room for one more tunnel. Its goroutine leaves at its end.
func (f *Forwarder) enter() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.stopped:
		return errStopped
	case f.tunnels >= maxTunnels:
		return errTooMany
	}
	f.tunnels++
	f.work.Add(1)
	return nil
}

func (f *Forwarder) leave() {
	f.mu.Lock()
	f.tunnels--
	f.mu.Unlock()
	f.work.Done()
}

// add makes a bound and keeps it; serve has to follow. make runs without the
// lock; what it makes is gone again if the Forwarder was stopped meanwhile.
func (f *Forwarder) add(make func() (*bound, error)) (*bound, error) {
	if err := f.reserve(); err != nil {
		return nil, err
	}
	defer f.starts.Done()
	b, err := make()
	if err = f.keep(b, err); errors.Is(err, errStopped) {
		b.close()
	}
	return b, err
}

// keep ends what reserve has begun.
func (f *Forwarder) keep(b *bound, err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.starting--
	switch {
	case err != nil:
		return err
	case f.stopped:
		return errStopped
	}
	f.work.Add(len(b.sockets))
	f.bounds = append(f.bounds, b)
	return nil
}

func (f *Forwarder) reserve() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.stopped:
		return errStopped
	case len(f.bounds)+f.starting >= maxBounds:
		return errTooMany
	}
	f.starting++
	f.starts.Add(1)
	return nil
}

// drop closes the bounds that match, and reports whether there were any.
func (f *Forwarder) drop(match func(*bound) bool) bool {
	f.mu.Lock()
	var dropped []*bound
	f.bounds = slices.DeleteFunc(f.bounds, func(b *bound) bool {
		if !match(b) {
			return false
		}
		dropped = append(dropped, b)
		return true
	})
	f.mu.Unlock()
	for _, b := range dropped {
		b.close()
	}
	return len(dropped) > 0
}

// contain is deferred at the top of every goroutine: what goes wrong for one
// client must not end the environment for all.
func (f *Forwarder) contain(what string) {
	if p := recover(); p != nil {
		f.config.Log.Error("panic contained", "in", what, "from", f.config.From, "panic", p, "stack", string(debug.Stack()))
	}
}
