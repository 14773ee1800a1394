package sshd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"buildenv/sshd/session"
	"buildenv/sshd/sshdconfig"
)

// How a server ends: what runs gets endGrace to finish by itself, and clients
// get leaveGrace to take their exit status and leave. Connections that have been
// cut get partTime to be gone.
const (
	endGrace   = 2 * time.Second
	leaveGrace = 250 * time.Millisecond
	settleTime = 2 * time.Second // at most, for records and recordings of sessions to be whole, and for forwarding after all else
	partTime   = 10 * time.Second
)

// DefaultHostKeyDir is where OpenSSH has its host keys.
const DefaultHostKeyDir = "/etc/ssh"

// Settings is a configuration that has been read; *sshdconfig.Config is one.
type Settings interface {
	// Server is what holds for the server as a whole.
	Server() sshdconfig.Server
	// For is what holds for one connection. It must be safe for concurrent use.
	For(sshdconfig.Connection) (sshdconfig.Settings, error)
}

var _ Settings = (*sshdconfig.Config)(nil)

// Config is what a server is made of.
type Config struct {
	Settings     Settings
	HostKeyDir   string          // where the default host keys are, and missing ones are made; "" for DefaultHostKeyDir
	KeepHostKeys bool            // make none: those that are there have to do, as with sshd
	Once         bool            // listen no more once somebody has connected, as sshd -d
	LoginMessage string          // shown when a shell starts on a terminal, "" for none
	TimeZone     string          // TZ of the sessions, which sshd inherits; "" for none
	Builtin      session.Builtin // commands that the server answers itself, nil for none
	Audit        *slog.Logger    // what clients do, one record for each event; nil for none
	Recordings   session.Recordings
	Log          *slog.Logger // required
}

// Server is an SSH server. Its methods may be called from any goroutine.
type Server struct {
	inForce  atomic.Pointer[rules]
	shadow   string // file that says which accounts are locked
	names    resolver
	patience time.Duration // with programs that are asked for keys or principals
	gate     gate
	served   atomic.Int64 // connections, ever
	sessions session.Table
	making   sync.Mutex  // held while host keys are made
	taken    atomic.Bool // with Config.Once: somebody has connected

	work     sync.WaitGroup // accept loops and connections
	stopping context.Context
	stop     context.CancelFunc // also ends the making of host keys

	mu          sync.Mutex // protects the following
	listeners   []listener
	shut        bool // no connection is accepted any more
	connections map[*connection]struct{}
}

// New checks what can be checked before anybody connects. It is an error when
// nobody could ever log in.
func New(c Config) (*Server, error) {
	if c.HostKeyDir == "" {
		c.HostKeyDir = DefaultHostKeyDir
	}
	if c.Audit == nil {
		c.Audit = slog.New(slog.DiscardHandler)
	}
	s := &Server{shadow: shadowFile, names: net.DefaultResolver, patience: programPatience, connections: map[*connection]struct{}{}}
	s.stopping, s.stop = context.WithCancel(context.Background())
	r, err := s.newRules(c)
	if err != nil {
		return nil, err
	}
	s.inForce.Store(r)
	return s, nil
}

// shutOut is why root may not log in, wherever he comes from; nil if he may
// from some address.
func shutOut(s sshdconfig.Settings) error {
	if s.PermitRootLogin == "no" {
		return errors.New("PermitRootLogin is no")
	}
	var allowed, denied []string
	for _, user := range s.AllowUsers {
		user, _, _ = strings.Cut(user, "@")
		allowed = append(allowed, user)
	}
	for _, user := range s.DenyUsers {
		if !strings.Contains(user, "@") {
			denied = append(denied, user)
		}
	}
	s.AllowUsers, s.DenyUsers = allowed, denied
	root, _ := lookUp(session.Root.Name)
	return s.Admit(sshdconfig.Connection{User: session.Root.Name, Groups: root.groupNames(), Address: "anywhere"})
}

// ErrNoHostKeys is returned when the server has nothing to prove itself with, and
// may not make it.
var ErrNoHostKeys = errors.New("start ssh server: no host keys available")

// Check finds out before Start, or instead of it, whether there is a host key and
// whether the names of addresses can be resolved.
func (s *Server) Check(ctx context.Context) error {
	r := s.inForce.Load()
	if _, err := wantedListeners(ctx, r.static); err != nil {
		return err
	}
	return r.ready()
}

// Start listens on all configured addresses, then serves in the background. It
// returns once clients can connect: with one host key in place; the others,
// where they have to be made, follow.
func (s *Server) Start(ctx context.Context) error {
	r := s.inForce.Load()
	if err := r.ready(); err != nil {
		return err
	}
	return s.listen(ctx, r)
}

// ServeConn serves one connection that somebody else has accepted, and returns
// when it has ended. Limits on how many there may be do not hold for it. A
// command without a terminal that it has started may outlive it, until Shutdown.
func (s *Server) ServeConn(raw net.Conn) error {
	r := s.inForce.Load()
	if err := r.ready(); err != nil {
		raw.Close()
		return err
	}
	c := newConnection(r, raw)
	if !s.track(c) {
		raw.Close()
		return errStopped
	}
	defer s.forget(c)
	c.serve()
	return nil
}

// errStopped is returned after StopListening, Shutdown or Close.
var errStopped = errors.New("serve ssh connection: the server is stopping")

// track counts a connection as one of the server's, unless that is stopping.
func (s *Server) track(c *connection) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		return false
	}
	s.connections[c] = struct{}{}
	s.work.Add(1)
	return true
}

func (s *Server) forget(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.connections, c)
	s.work.Done()
}

// PidFile is where the configuration in force wants the process's id, "" for nowhere.
func (s *Server) PidFile() string { return s.inForce.Load().static.PidFile }

// Addrs are the addresses that the server listens on.
func (s *Server) Addrs() []net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	var addrs []net.Addr
	for _, l := range s.listeners {
		addrs = append(addrs, l.Addr())
	}
	return addrs
}

// Shutdown accepts nobody any more and ends all sessions, then what is forwarded;
// terminals are shown reason. It returns when no process of a session is left, or
// with what is left. When ctx ends it stops waiting and kills. Connections stay
// until Close.
func (s *Server) Shutdown(ctx context.Context, reason string) error {
	s.stop()
	s.StopListening()
	for _, c := range s.open() {
		if !c.authenticated.Load() {
			c.end(endedByServer)
		}
	}
	if err := errors.Join(s.sessions.End(ctx, reason, endGrace), s.endForwarding(ctx)); err != nil {
		return fmt.Errorf("shut down ssh server: %w", err)
	}
	return nil
}

// endForwarding ends it for all connections, until ctx ends: a socket may lie on
// a file system that does not answer any more.
func (s *Server) endForwarding(ctx context.Context) error {
	var all sync.WaitGroup
	for _, c := range s.open() {
		all.Go(c.stopForwarding)
	}
	ended := make(chan struct{})
	go func() { // ends with the forwarding
		all.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-ended:
		return nil
	case <-time.After(settleTime):
		return fmt.Errorf("end forwarding: %w", ctx.Err())
	}
}

// Close gives clients a moment to leave by themselves, then cuts their
// connections and waits for them, though not for ever. Without a Shutdown before
// it, commands without a terminal stay alive, as when a client leaves.
func (s *Server) Close() error {
	defer s.sessions.Settle(settleTime)
	s.stop()
	err := s.StopListening()
	left := s.left()
	select {
	case <-left:
		return err
	case <-time.After(leaveGrace):
	}
	for _, c := range s.open() {
		c.end(endedByServer)
	}
	select {
	case <-left:
		return err
	case <-time.After(partTime):
		return errors.Join(err, fmt.Errorf("close ssh server: a connection does not end"))
	}
}

// StopListening accepts nobody any more. Who is connected stays, and may work on.
func (s *Server) StopListening() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut = true
	return closeAll(s.listeners) // they stay in the list: their addresses may still be asked for
}

// Wait returns when the server has stopped listening and the last client has
// left, or when ctx ends.
func (s *Server) Wait(ctx context.Context) {
	select {
	case <-s.left():
	case <-ctx.Done():
	}
}

// left is closed when no work is left.
func (s *Server) left() <-chan struct{} {
	left := make(chan struct{})
	go func() { // ends with the work
		s.work.Wait()
		close(left)
	}()
	return left
}

func (s *Server) open() []*connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := make([]*connection, 0, len(s.connections))
	for c := range s.connections {
		open = append(open, c)
	}
	return open
}
