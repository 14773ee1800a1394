package sshd

import (
	"cmp"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"buildenv/internal/wording"
	"buildenv/sshd/session"
)

// Why a connection ended, where that was the server's doing, as the audit has it.
const (
	endedByGrace    = "LoginGraceTime"
	endedBySilence  = "client not responding"
	endedUnused     = "UnusedConnectionTimeout"
	endedByServer   = "server is stopping"
	endedByPanic    = "internal error"
	endedByFlood    = "too many channels"
	endedByRefusal  = "RefuseConnection"
	endedSuspicious = "session after no-more-sessions"
)

// end closes the connection. Of many reasons the first one counts.
func (c *connection) end(reason string) {
	c.reason.CompareAndSwap(nil, &reason)
	c.Close()
}

// contain is deferred at the top of every goroutine of a connection: what goes
// wrong for one client must not end the server for all. It ends the connection,
// as the crash of sshd's process for it would.
func (c *connection) contain() {
	if p := recover(); p != nil {
		c.server.log.Error("panic contained", "in", "connection", "from", c.from, "panic", p, "stack", string(debug.Stack()))
		c.end(endedByPanic)
	}
}

func (c *connection) outOfTime() {
	if !c.authenticated.Load() {
		c.server.log.Info("Timeout before authentication for " + c.from)
		c.end(endedByGrace)
	}
}

// who is the client, as sshd's log names it in front of its address.
func (c *connection) who() string {
	switch {
	case c.authenticated.Load():
		return "user " + c.user + " " + c.from
	case c.introduced:
		return cmp.Or(c.invalid, "authenticating user ") + c.user + " " + c.from
	}
	return c.from
}

// failed logs a handshake that came to nothing. One without a word from the
// client is a probe, of which a cluster has many.
func (c *connection) failed(err error) {
	log := c.server.log
	c.failure = err
	var disagreement *ssh.AlgorithmNegotiationError
	switch {
	case exhausted(err):
		log.Error(fmt.Sprintf("maximum authentication attempts exceeded for %s%s from %s ssh2 [preauth]", c.invalid, c.user, c.from))
		log.Info(fmt.Sprintf("Disconnecting %s: Too many authentication failures [preauth]", c.who()))
	case c.reason.Load() != nil: // has been told
	case errors.As(err, &disagreement):
		log.Info(fmt.Sprintf("Unable to negotiate with %s: no matching %s found. Their offer: %s [preauth]", c.from, subject(disagreement.What),
			wording.Escape(fmt.Sprintf("%.*s", maxAuditText, strings.Join(disagreement.RequestedAlgorithms, ",")))))
	case c.introduced || c.received.Load() > 0:
		log.Info(fmt.Sprintf("Connection %s by %s [preauth]", closedOrReset(err), c.who()), "reason", wording.Escape(err.Error()))
	default:
		log.Debug(fmt.Sprintf("Connection %s by %s [preauth]", closedOrReset(err), c.who()), "reason", wording.Escape(err.Error()))
	}
}

// subject is what algorithms are for, in sshd's words instead of the library's.
func subject(what string) string {
	for _, kind := range []string{"cipher", "MAC", "compression"} {
		if strings.Contains(strings.ToLower(what), strings.ToLower(kind)) {
			return kind
		}
	}
	return map[string]string{"key exchange": "key exchange method", "host key": "host key type"}[what]
}

func closedOrReset(err error) string {
	if errors.Is(err, syscall.ECONNRESET) {
		return "reset"
	}
	return "closed"
}

// exhausted tells that MaxAuthTries, or the library's own limit, was reached. The
// last error is then the library's message to the client; earlier ones may
// quote the client.
func exhausted(err error) bool {
	last := lastRefusal(err)
	return last != nil && strings.HasPrefix(last.Error(), "ssh: disconnect, reason 2: ")
}

// left logs the end of an authenticated connection.
func (c *connection) left() {
	conn, ok := c.established()
	if !ok {
		return
	}
	c.failure = conn.Wait()
	log := c.server.log
	said, disconnected := disconnect(c.failure)
	switch {
	case disconnected:
		log.Info(fmt.Sprintf("Received disconnect from %s:%s", c.from, wording.Escape(fmt.Sprintf("%.200s", said))))
		log.Info("Disconnected from " + c.who())
	case c.reason.Load() != nil: // has been told
	default:
		log.Info(fmt.Sprintf("Connection %s by %s", closedOrReset(c.failure), c.from))
	}
	log.Log(c.library, session.LevelVerbose, fmt.Sprintf("Transferred: sent %d, received %d bytes", c.sent.Load(), c.received.Load()))
	log.Log(c.library, session.LevelVerbose, "Closing connection to "+c.from)
}

// disconnect is what the client said when it left, "11: disconnected by user" for
// one. The library quotes the text; the error's type is its own secret.
func disconnect(err error) (said string, ok bool) {
	said, ok = strings.CutPrefix(err.Error(), "ssh: disconnect, reason ")
	number, quoted, _ := strings.Cut(said, ": ")
	if text, err := strconv.Unquote(quoted); err == nil {
		said = number + ": " + text
	}
	return said, ok
}

// opened and closed are a connection's events in the audit.
func (c *connection) opened() {
	c.server.log.Log(c.server.stopping, session.LevelVerbose, fmt.Sprintf(`Connection from %s on %s rdomain ""`, c.from, describe(c.local)))
	c.audit.Info("connection.opened", "local", endpointOf(c.local))
}

func (c *connection) closed() {
	fields := []any{"in", c.received.Load(), "out", c.sent.Load(), "seconds", time.Since(c.began).Seconds(), "reason", c.why()}
	if c.authenticated.Load() {
		fields = append(fields, "user", c.name)
	}
	c.audit.Info("connection.closed", fields...)
}

// why a connection ended, in one word or few.
func (c *connection) why() string {
	if reason := c.reason.Load(); reason != nil {
		return *reason
	}
	if c.failure == nil {
		return "refused"
	}
	if said, ok := disconnect(c.failure); ok {
		return "disconnect: " + wording.Escape(fmt.Sprintf("%.200s", said))
	}
	if exhausted(c.failure) {
		return "MaxAuthTries"
	}
	return wording.Escape(fmt.Sprintf("%.200s", cmp.Or(lastRefusal(c.failure), c.failure).Error()))
}

// lastRefusal is why a client that has left, or had to, was not let in the last
// time it tried; nil if that is not how the handshake failed.
func lastRefusal(err error) error {
	var refusals *ssh.ServerAuthError
	if errors.As(err, &refusals) && len(refusals.Errors) > 0 {
		return refusals.Errors[len(refusals.Errors)-1]
	}
	return nil
}
