package session

import (
	"bytes"
	"io"
	"sync"

	"golang.org/x/crypto/ssh"
)

// output is the channel's standard output. A channel must not be written to
// from two goroutines, and a shutdown message may come at any time.
type output struct {
	mu      sync.Mutex
	channel ssh.Channel
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.channel.Write(p)
}

// errorOutput is the channel's standard error. It shares the lock with standard
// output, as it shares the window (RFC 4254, section 5.2) and the EOF.
type errorOutput struct{ *output }

func (e errorOutput) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.channel.Stderr().Write(p)
}

// closeWrite sends EOF. Nothing can be written after it.
func (o *output) closeWrite() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.channel.CloseWrite()
}

// crlf ends lines the way a terminal needs them. It is for text of the
// server's own, which no line discipline has seen.
type crlf struct{ w io.Writer }

func (c crlf) Write(p []byte) (int, error) {
	text := bytes.ReplaceAll(p, []byte("\r\n"), []byte("\n"))
	if _, err := c.w.Write(bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// streams are where text of the server's own goes: with a terminal there is
// one stream only, as for any program on it.
func (s *session) streams() (stdout, stderr io.Writer) {
	if s.tty != nil {
		return crlf{s.out}, crlf{s.out}
	}
	return s.out, errorOutput{s.out}
}
