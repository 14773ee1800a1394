package sshd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"buildenv/internal/netx"
	"buildenv/sshd/sshdconfig"
)

// listener is one of the server's addresses.
type listener struct {
	net.Listener
	network, address string // as asked for
}

func (l listener) same(other listener) bool {
	return l.network == other.network && l.address == other.address
}

// listen puts rules into force and opens their addresses. Those that are open
// already stay so, without a moment in which nobody could connect; others are
// closed first, for they may be in the way of new ones. As with sshd an address
// that cannot be opened is told and left out; it is an error if none can be, after
// which everything is as it was.
func (s *Server) listen(ctx context.Context, r *rules) error {
	wanted, err := wantedListeners(ctx, r.static)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		return errStopped
	}
	kept, missing, surplus := sortOut(s.listeners, wanted)
	closeAll(surplus)
	opened, failures := openAll(ctx, missing)
	if len(kept)+len(opened) == 0 {
		reopened, again := openAll(ctx, surplus)
		s.listeners = reopened
		s.welcomeAt(reopened)
		return errors.Join(fmt.Errorf("start ssh server: %w", errors.Join(failures...)), errors.Join(again...))
	}
	for _, err := range failures {
		r.log.Error(err.Error())
	}
	s.inForce.Store(r)
	s.listeners = append(kept, opened...)
	s.welcomeAt(opened)
	for _, l := range s.listeners { // those that were open too, as sshd, which is started anew
		at := addrPort(l.Addr())
		r.log.Info(fmt.Sprintf("Server listening on %s port %d.", at.Addr(), at.Port()))
	}
	return nil
}

// wantedListeners are what a configuration asks for. A name stands for every
// address that it has.
func wantedListeners(ctx context.Context, static sshdconfig.Server) (wanted []listener, err error) {
	for _, address := range static.Listen {
		numeric, err := resolve(ctx, static.AddressFamily, address)
		if err != nil {
			return nil, err
		}
		for _, a := range numeric {
			wanted = append(wanted, listener{network: network(static.AddressFamily, a), address: a})
		}
	}
	return wanted, nil
}

// families are those of AddressFamily (sshd_config(5)), as Go's resolver calls them.
var families = map[string]string{"inet": "ip4", "inet6": "ip6"}

// resolve replaces the host of an address by the addresses that it has.
func resolve(ctx context.Context, family, address string) (numeric []string, err error) {
	host, port, err := net.SplitHostPort(address)
	if _, notNumeric := netip.ParseAddr(host); err != nil || host == "" || notNumeric == nil {
		return []string{address}, nil // and what is wrong with it, listening will say
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, cmp.Or(families[family], "ip"), host)
	if err != nil {
		return nil, fmt.Errorf("bad addr or host: %s (%w)", host, err)
	}
	for _, ip := range found {
		numeric = append(numeric, net.JoinHostPort(ip.Unmap().String(), port))
	}
	return numeric, nil
}

// sortOut compares what is open with what is wanted.
func sortOut(open, wanted []listener) (kept, missing, surplus []listener) {
	surplus = slices.Clone(open)
	for _, l := range wanted {
		if i := slices.IndexFunc(surplus, l.same); i >= 0 {
			kept = append(kept, surplus[i])
			surplus = slices.Delete(surplus, i, i+1)
		} else {
			missing = append(missing, l)
		}
	}
	return kept, missing, surplus
}

// openAll opens those that can be. Whether their connections are probed by TCP
// is decided when they are accepted.
func openAll(ctx context.Context, wanted []listener) (opened []listener, failures []error) {
	config := net.ListenConfig{KeepAlive: -1}
	for _, l := range wanted {
		var err error
		if l.Listener, err = config.Listen(ctx, l.network, l.address); err != nil {
			failures = append(failures, bindError(l.address, err))
			continue
		}
		opened = append(opened, l)
	}
	return opened, failures
}

// bindError is why an address cannot be opened, in sshd's words.
func bindError(address string, err error) error {
	host, port, _ := net.SplitHostPort(address)
	if cause := new(os.SyscallError); errors.As(err, &cause) {
		err = cause.Err
	}
	//lint:ignore ST1005 sshd's words
	return fmt.Errorf("Bind to port %s on %s failed: %w", port, cmp.Or(host, "*"), err)
}

func closeAll(open []listener) error {
	var errs []error
	for _, l := range open {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (s *Server) welcomeAt(opened []listener) {
	for _, l := range opened {
		s.work.Go(func() { s.accept(l) })
	}
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

func (s *Server) accept(l net.Listener) {
	netx.Accept(l, s.stopping.Done(), s.welcome, func(err error) { s.inForce.Load().log.Error("accept", "error", err) })
}

// welcome serves a connection, unless it is turned away.
func (s *Server) welcome(raw net.Conn) {
	r := s.inForce.Load()
	if r.config.Once {
		if s.taken.Swap(true) {
			raw.Close()
			return
		}
		defer s.StopListening()
	}
	from := addrPort(raw.RemoteAddr())
	refused := s.gate.enter(r.static, from.Addr(), time.Now())
	for _, note := range refused.notes {
		r.log.Error(note)
	}
	if refused.reason != "" {
		r.turnAway(raw, refused)
		return
	}
	if tcp, ok := raw.(*net.TCPConn); ok && r.static.TCPKeepAlive {
		tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}) // the system's own, as sshd
	}
	source := sourceOf(r.static.PerSource, from.Addr())
	c := newConnection(r, raw)
	c.settle = sync.OnceFunc(func() { s.gate.leave(source) })
	if !s.track(c) {
		c.settle()
		raw.Close()
		return
	}
	go func() {
		defer s.forget(c)
		c.serve()
		s.punish(c)
	}()
}

// turnAway tells a client, and the log, that it is not served.
func (r *rules) turnAway(raw net.Conn, why refusal) {
	from, at := addrPort(raw.RemoteAddr()), addrPort(raw.LocalAddr())
	r.log.Log(r.stopping, why.level, fmt.Sprintf("drop connection #%d from [%s]:%d on [%s]:%d %s",
		why.others, from.Addr(), from.Port(), at.Addr(), at.Port(), why.reason))
	r.config.Audit.Info("connection.refused", "remote", from.String(), "local", at.String(), "reason", why.reason)
	io.WriteString(raw, why.told) // a new socket takes it at once
	raw.Close()
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
