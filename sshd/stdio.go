package sshd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Stdio is the connection of a client whose bytes come from in and go to out,
// for ServeConn: one socket, as inetd and a proxy command have it, or two pipes,
// whose client has no address. in and out are not to be used any more.
func Stdio(in, out *os.File) (net.Conn, error) {
	if socket, err := net.FileConn(in); err == nil {
		in.Close()
		out.Close()
		return socket, nil
	}
	reader, err := pollable(in)
	if err != nil {
		return nil, err
	}
	writer, err := pollable(out)
	if err != nil {
		reader.Close()
		return nil, err
	}
	return &pipes{reader, writer}, nil
}

// pollable is f such that Close ends a Read or Write in progress: only a file
// that was taken over as non-blocking is.
func pollable(f *os.File) (*os.File, error) {
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("take over %s: %w", f.Name(), err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("take over %s: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// pipes is a connection of two of them.
type pipes struct{ in, out *os.File }

func (p *pipes) Read(b []byte) (int, error)  { return p.in.Read(b) }
func (p *pipes) Write(b []byte) (int, error) { return p.out.Write(b) }
func (p *pipes) Close() error                { return errors.Join(p.in.Close(), p.out.Close()) }
func (p *pipes) LocalAddr() net.Addr         { return pipeAddr{} }
func (p *pipes) RemoteAddr() net.Addr        { return pipeAddr{} }

func (p *pipes) SetDeadline(t time.Time) error {
	return errors.Join(p.in.SetDeadline(t), p.out.SetDeadline(t))
}

func (p *pipes) SetReadDeadline(t time.Time) error  { return p.in.SetReadDeadline(t) }
func (p *pipes) SetWriteDeadline(t time.Time) error { return p.out.SetWriteDeadline(t) }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "UNKNOWN" } // as sshd's log has it
