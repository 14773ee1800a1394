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
	mu        sync.Mutex
	channel   ssh.Channel
	recording *recording // nil for none
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.recording != nil {
		if err := o.recording.output(p); err != nil {
			return 0, err
		}
	}
	return o.channel.Write(p)
}

// record has everything recorded from now on.
func (o *output) record(r *recording) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.recording = r
}

// unrecorded is for what can be recorded no more.
type unrecorded struct{ *output }

func (u unrecorded) Write(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.channel.Write(p)
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
