package sshd

import (
	"bytes"
	"crypto/rand"
	"errors"
	"strings"

	glider "github.com/gliderlabs/ssh"
	"golang.org/x/crypto/ssh"

	"buildenv/sshd/forward"
)

// Global requests of OpenSSH (its PROTOCOL file, sections 2.2 and 2.5).
const (
	noMoreSessions = "no-more-sessions@openssh.com"
	hostKeysAre    = "hostkeys-00@openssh.com"
	hostKeysProve  = "hostkeys-prove-00@openssh.com"
)

// requests are the answers to global requests. They come one after the other,
// and the connection stands still until they are answered, so none may wait for
// anything; only the look-up of a name to listen on does, for a bounded time, as
// with sshd. What is not known is refused.
func (c *connection) requests() map[string]glider.RequestHandler {
	answers := map[string]glider.RequestHandler{
		noMoreSessions: c.answer(c.closeDoor),
		hostKeysProve:  c.answer(c.proveHostKeys),
		"default":      c.answer(func(*ssh.ServerConn, []byte) (bool, []byte) { return false, nil }),
	}
	for _, name := range forward.Requests {
		answers[name] = c.listen
	}
	return answers
}

func (c *connection) answer(f func(*ssh.ServerConn, []byte) (bool, []byte)) glider.RequestHandler {
	return func(_ glider.Context, _ *glider.Server, r *ssh.Request) (ok bool, reply []byte) {
		defer c.contain()
		conn, ok := c.established()
		if !ok {
			return false, nil
		}
		c.announce(conn)
		return f(conn, r.Payload)
	}
}

// closeDoor is the client's word that it opens no more sessions. The library
// hands over requests and channels separately, so the session that the client
// has opened just before may still be on its way: a client has one, or it would
// not have connected.
func (c *connection) closeDoor(*ssh.ServerConn, []byte) (bool, []byte) {
	c.doorClosed.Store(true)
	return true, nil
}

// mayOpenSession: an attempt after the client's word is not the client's own
// doing, or not its honest one.
func (c *connection) mayOpenSession() bool {
	closed := c.doorClosed.Load()
	if c.sessionsSeen.Add(1) == 1 || !closed {
		return true
	}
	c.server.log.Info("Disconnecting " + c.who() + ": Possible attack: attempt to open a session after additional sessions disabled")
	c.end(endedSuspicious)
	return false
}

// announce tells the client all our host keys, once, so that it may come to know
// those that it has not seen (ssh_config(5), UpdateHostKeys).
func (c *connection) announce(conn *ssh.ServerConn) {
	c.announced.Do(func() {
		var payload []byte
		for _, key := range c.server.keys.plain() {
			payload = append(payload, ssh.Marshal(struct{ Key []byte }{key.PublicKey().Marshal()})...)
		}
		conn.SendRequest(hostKeysAre, false, payload)
	})
}

var errUnknownHostKey = errors.New("not one of our host keys")

// proveHostKeys signs for the keys that the client asks about.
func (c *connection) proveHostKeys(conn *ssh.ServerConn, payload []byte) (bool, []byte) {
	ours := c.server.keys.plain()
	var reply []byte
	for n := 0; len(payload) > 0; n++ {
		var asked struct {
			Key  []byte
			Rest []byte `ssh:"rest"`
		}
		if n == len(ours) || ssh.Unmarshal(payload, &asked) != nil {
			return false, nil
		}
		payload = asked.Rest
		signature, err := proveHostKey(conn, ours, asked.Key)
		if err != nil {
			c.server.log.Error("host key not proven", "from", c.from, "error", err)
			return false, nil
		}
		reply = append(reply, ssh.Marshal(struct{ Signature []byte }{signature})...)
	}
	return true, reply
}

func proveHostKey(conn *ssh.ServerConn, ours []ssh.Signer, blob []byte) ([]byte, error) {
	for _, key := range ours {
		if !bytes.Equal(key.PublicKey().Marshal(), blob) {
			continue
		}
		data := ssh.Marshal(struct {
			Name         string
			Session, Key []byte
		}{hostKeysProve, conn.SessionID(), blob})
		signature, err := signAsNegotiated(conn, key, data)
		if err != nil {
			return nil, err
		}
		return ssh.Marshal(signature), nil
	}
	return nil, errUnknownHostKey
}

// signAsNegotiated signs with the algorithm of the key exchange if that was with
// an RSA key: the client takes no other one for such keys.
func signAsNegotiated(conn *ssh.ServerConn, key ssh.Signer, data []byte) (*ssh.Signature, error) {
	signer, ok := key.(ssh.AlgorithmSigner)
	if !ok || key.PublicKey().Type() != ssh.KeyAlgoRSA {
		return key.Sign(rand.Reader, data)
	}
	algorithm := ssh.KeyAlgoRSASHA512
	if negotiated, ok := conn.Conn.(ssh.AlgorithmsConnMetadata); ok && strings.HasPrefix(negotiated.Algorithms().HostKey, ssh.KeyAlgoRSASHA256) { // or its certificate
		algorithm = ssh.KeyAlgoRSASHA256
	}
	return signer.SignWithAlgorithm(rand.Reader, data, algorithm)
}

// plain are the keys that are ready, without certificates.
func (h *hostKeys) plain() (keys []ssh.Signer) {
	for _, key := range h.all() {
		if _, isCertificate := key.PublicKey().(*ssh.Certificate); !isCertificate {
			keys = append(keys, key)
		}
	}
	return keys
}
