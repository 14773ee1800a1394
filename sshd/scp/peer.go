package scp

import (
	"bufio"
	"fmt"
	"io"
)

// Bounds of what a client may send as one line, those of OpenSSH's scp.
const (
	maxRecord   = 16383
	maxResponse = 2048
)

// bufferSize is how much of a file moves at once.
const bufferSize = 256 << 10

// A peer is the client on the other end. What is written goes out when the
// client's turn to speak comes.
type peer struct {
	r *bufio.Reader
	w *bufio.Writer
}

func newPeer(rw io.ReadWriter) *peer {
	return &peer{bufio.NewReaderSize(rw, 32<<10), bufio.NewWriterSize(rw, 32<<10)}
}

// Bytes that begin or are a response.
const (
	responseOK    = 0
	responseError = 1
	responseFatal = 2
)

// accept tells the client to go on.
func (p *peer) accept() error {
	p.w.WriteByte(responseOK)
	return p.flush()
}

// flush sends what was written. A client that is gone ends the conversation.
func (p *peer) flush() error {
	if p.w.Flush() != nil {
		return errEnd
	}
	return nil
}

// line reads to the end of a line, which it leaves away.
func (p *peer) line(first byte, limit int) (string, error) {
	line := []byte{first}
	for len(line) <= limit {
		c, err := p.r.ReadByte()
		if err != nil {
			return "", err
		}
		if c == '\n' {
			return string(line), nil
		}
		line = append(line, c)
	}
	return "", errTooLong
}

// fail tells the client what went wrong, which then goes on with the next file.
// Names in an image may hold anything, but not end the line.
func (t *transfer) fail(format string, args ...any) error {
	t.failed = true
	fmt.Fprintf(t.peer.w, "%cscp: %s\n", responseError, oneLine(fmt.Sprintf(format, args...)))
	return t.peer.flush()
}

// breakOff is fail for an error after which the two sides would no longer
// understand each other.
func (t *transfer) breakOff(format string, args ...any) error {
	t.fail(format, args...)
	return errEnd
}

// response is the client's answer to what was sent. An answer that refuses it
// is counted, and said by ok.
func (t *transfer) response() (ok bool, err error) {
	if err := t.peer.flush(); err != nil {
		return false, err
	}
	kind, err := t.peer.r.ReadByte()
	if err != nil {
		return false, errEnd
	}
	if kind == responseOK {
		return true, nil
	}
	t.failed = true
	// Its text is for whoever sits at the other end, who has it.
	if _, err := t.peer.line(kind, maxResponse); err != nil || kind != responseError {
		return false, errEnd
	}
	return false, nil
}

// tell is a line for a client that runs with -v.
func (t *transfer) tell(format string, args ...any) {
	if t.Verbose && t.opts.Stderr != nil {
		fmt.Fprintf(t.opts.Stderr, format, args...)
	}
}
