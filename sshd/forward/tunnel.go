package forward

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// event is what the audit log says about a tunnel.
type event struct {
	direction  string // local: the client connects to here; remote: somebody here connects to the client
	kind       string // tcp, unix or agent
	bind       string // where we listened, "" for a local one
	target     string // where the tunnel leads, as the client named it; "" for a remote one
	originator string // who connects, "" if unknown
}

func (e event) attrs(more ...any) []any {
	attrs := []any{"direction", e.direction, "kind", e.kind}
	for _, a := range []slog.Attr{slog.String("bind", e.bind), slog.String("target", e.target), slog.String("originator", e.originator)} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	return append(attrs, more...)
}

// refused notes what was not done, and why.
func (f *Forwarder) refused(e event, reason string) {
	f.config.Audit.Info("forward.refused", e.attrs("reason", reason)...)
}

// carry serves an open tunnel to its end.
func (f *Forwarder) carry(e event, channel ssh.Channel, requests <-chan *ssh.Request, s socket) {
	began := time.Now()
	f.config.Log.Debug("tunnel open", e.attrs("from", f.config.From)...)
	f.config.Audit.Info("forward.opened", e.attrs()...)
	r := newRelay(channel, requests, s)
	err := r.run(f.ctx)
	f.config.Audit.Info("forward.closed", e.attrs("in", r.received.Load(), "out", r.sent.Load(),
		"seconds", time.Since(began).Seconds(), "reason", ending(err))...)
	r.finish()
}

// ending says why a tunnel has ended. That one side closed it before the other
// was through is an end like any other.
func ending(err error) string {
	switch {
	case errors.Is(err, errStopped):
		return err.Error()
	case err == nil:
		return "both sides have finished"
	case errors.Is(err, io.EOF):
		return "the channel was closed"
	case errors.Is(err, net.ErrClosed), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNRESET):
		return "the socket was closed"
	}
	return err.Error()
}
