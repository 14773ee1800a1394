// Package sftp is a server for version 3 of the SSH File Transfer Protocol
// (draft-ietf-secsh-filexfer-02) that behaves like OpenSSH's sftp-server(8):
// the same answers to the same requests, the same extensions and options. It
// runs inside the server's process, so an image root needs no program of its
// own for it and may be of another architecture.
//
// Paths are resolved by a [jail.Jail], that is, by the kernel on a thread with
// the image root as its root directory; this package checks no path. Files
// that are open are read and written from outside.
//
// A session is a pipeline. One goroutine receives packets, one carries them
// out in the order of their arrival, one reads files, one sends replies. The
// rule of order is simple: a read is carried out while the next request is
// looked at; any other request waits until the reads before it are done, and is
// done before the next one is looked at. So replies come in the order of the
// requests, and a client that sends write, fsync, close and rename without
// waiting for the answers gets what it means.
//
// Where OpenSSH's behaviour would harm the work on images, this server
// differs: setstat changes the owner before the mode, so that the set-user-ID
// bit survives, and fifos are not opened.
package sftp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"buildenv/sshd/jail"

	"golang.org/x/sys/unix"
)

// queueLength is how many packets may wait for each goroutine. It bounds the
// memory of a session to a few MiB.
const queueLength = 4

// errEnded is returned when the session is over before a request is.
var errEnded = errors.New("session ended")

// session is the state of one client. Its fields belong to the goroutine of
// Serve, except where a comment says otherwise.
type session struct {
	jail        *jail.Jail
	opts        Options
	log         *slog.Logger
	start       string // absolute; relative paths begin here
	initialised bool
	handles     handles
	accounts    accounts // as of the last opendir

	done    <-chan struct{} // closed when the session is over
	reads   chan fileRead   // to the goroutine that reads files
	reading sync.WaitGroup  // the reads that are under way
	replies chan *packet    // to the goroutine that sends
}

// Serve answers requests until the client ends the stream, for which the error
// is nil, until the stream breaks or carries something malformed, or until ctx
// ends. After an error it does not wait for the stream: the caller closes it,
// which ends the two goroutines that may still be using it. The jail is used
// only until Serve returns.
func Serve(ctx context.Context, rw io.ReadWriter, j *jail.Jail, opts Options) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := newSession(ctx, j, opts)
	defer s.handles.closeAll()

	received := make(chan *packet, queueLength)
	broken := make(chan error, 1)
	go func() {
		defer close(received)
		broken <- receive(ctx, rw, received)
	}()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		if err := s.transmit(rw); err != nil {
			cancel(err)
		}
	}()
	go s.readFiles()

	err := s.answerAll(received)
	if err == nil {
		err = <-broken
	}
	if err == nil {
		s.finish(sent)
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("sftp: %w", err)
	}
	return nil
}

func newSession(ctx context.Context, j *jail.Jail, opts Options) *session {
	s := &session{
		jail:    j,
		opts:    opts,
		log:     opts.Log,
		start:   "/",
		handles: handles{open: make(map[uint64]*handle)},
		done:    ctx.Done(),
		reads:   make(chan fileRead),
		replies: make(chan *packet, queueLength),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	for _, dir := range opts.startDirectories() {
		if s.isDirectory(dir) {
			s.start = dir
			break
		}
	}
	return s
}

func (s *session) isDirectory(path string) bool {
	var st unix.Stat_t
	err := s.inJail(func() error { return unix.Stat(path, &st) })
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// receive passes packets on until the stream ends; nil is a clean end.
func receive(ctx context.Context, r io.Reader, received chan<- *packet) error {
	buffered := bufio.NewReader(r)
	for {
		p, err := readPacket(buffered)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		select {
		case received <- p:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// answerAll carries out requests until there are no more or the session ends.
func (s *session) answerAll(received <-chan *packet) error {
	for {
		select {
		case <-s.done:
			return errEnded
		case p, more := <-received:
			if !more {
				return nil
			}
			err := s.answer(p)
			p.free()
			if err != nil {
				return err
			}
		}
	}
}

// schedule has a read carried out while the session goes on.
func (s *session) schedule(r fileRead) error {
	s.reading.Add(1)
	select {
	case s.reads <- r:
		return nil
	case <-s.done:
		s.reading.Done()
		return errEnded
	}
}

// readFiles carries out reads until the session ends. There is one such
// goroutine, or their replies would pass each other: OpenSSH's scp keeps a file
// only up to the first gap.
func (s *session) readFiles() {
	for {
		select {
		case <-s.done:
			return
		case r := <-s.reads:
			r.do()
			s.send(r.reply)
			s.reading.Done()
		}
	}
}

// send queues a reply. It is safe for concurrent use.
func (s *session) send(p *packet) error {
	p.finish()
	select {
	case s.replies <- p:
		return nil
	case <-s.done:
		return errEnded
	}
}

// ended reports whether the session is over, for requests that take long.
func (s *session) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// transmit writes replies until there are no more or the session ends.
func (s *session) transmit(w io.Writer) error {
	for {
		select {
		case <-s.done:
			return nil
		case p, more := <-s.replies:
			if !more {
				return nil
			}
			_, err := w.Write(p.b)
			p.free()
			if err != nil {
				return fmt.Errorf("send: %w", err)
			}
		}
	}
}

// finish sends what is left to be sent after the client's last request.
func (s *session) finish(sent <-chan struct{}) {
	s.reading.Wait()
	close(s.replies)
	select {
	case <-sent:
	case <-s.done:
	}
}
