package sshd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"buildenv/sshd/sshdconfig"
)

// listen opens every address. The caller closes what is open after an error.
func (s *Server) listen(ctx context.Context) error {
	config := net.ListenConfig{}
	if !s.static.TCPKeepAlive {
		config.KeepAlive = -1
	}
	for _, address := range s.static.Listen {
		l, err := config.Listen(ctx, network(s.static.AddressFamily, address), address)
		if err != nil {
			return fmt.Errorf("start ssh server: %w", err)
		}
		s.mu.Lock()
		s.listeners = append(s.listeners, l)
		s.mu.Unlock()
		at := addrPort(l.Addr())
		s.log.Info(fmt.Sprintf("Server listening on %s port %d.", at.Addr(), at.Port()))
	}
	return nil
}

// network is the one to listen on. An address is of its own family only, 0.0.0.0
// and :: too, which a socket of either family would otherwise answer for both.
func network(family, address string) string {
	switch family {
	case "inet":
		return "tcp4"
	case "inet6":
		return "tcp6"
	}
	host, _, _ := net.SplitHostPort(address)
	ip, err := netip.ParseAddr(host)
	switch {
	case err != nil: // no host, for both families, or a name
		return "tcp"
	case ip.Is4():
		return "tcp4"
	}
	return "tcp6"
}

// closeListeners keeps them in the list: their addresses may still be asked for.
func (s *Server) closeListeners() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, l := range s.listeners {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// acceptPause is how long to wait after an error of accept(2) that is not the
// end, too many open files for one: the next try would fail as well.
const acceptPause = 100 * time.Millisecond

func (s *Server) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err == nil {
			s.welcome(c)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		s.log.Error("accept", "error", err)
		select {
		case <-time.After(acceptPause):
		case <-s.stopping.Done():
			return
		}
	}
}

// welcome serves a connection, unless too many others have not yet said who they are.
func (s *Server) welcome(raw net.Conn) {
	if !s.startups.enter() {
		s.log.Warn(fmt.Sprintf("drop connection from %s past MaxStartups", raw.RemoteAddr()))
		io.WriteString(raw, "Exceeded MaxStartups\r\n") // as sshd; a new socket takes it at once
		raw.Close()
		return
	}
	c := newConnection(s, raw)
	s.mu.Lock()
	s.connections[c] = struct{}{}
	s.mu.Unlock()
	s.work.Go(func() {
		c.serve()
		s.mu.Lock()
		delete(s.connections, c)
		s.mu.Unlock()
	})
}

// addrPort is a TCP address, an IPv4 one in its own form.
func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	at := tcp.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// startups counts the connections that have not authenticated yet.
type startups struct {
	limits sshdconfig.MaxStartups

	mu sync.Mutex // protects the following
	n  int
}

// enter counts one more, unless it is one too many.
func (s *startups) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rand.IntN(100) < dropRate(s.limits, s.n) {
		return false
	}
	s.n++
	return true
}

func (s *startups) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n--
}

// dropRate is the chance in per cent that a connection is dropped when n others
// have not authenticated: sshd's "random early drop" (sshd_config(5), MaxStartups).
func dropRate(m sshdconfig.MaxStartups, n int) int {
	switch {
	case n < m.Begin || m.Full == 0:
		return 0
	case n >= m.Full:
		return 100
	}
	return m.Rate + (100-m.Rate)*(n-m.Begin)/(m.Full-m.Begin)
}
