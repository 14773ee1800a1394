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
// out in the order of their arrival, a few read files, one sends replies. The
// rule of order is simple: reads run side by side; any other request waits until
// the reads before it are done, and is done before the next request is looked
// at. So a client that sends write, fsync, close and rename without waiting for
// the answers gets what it means. Replies are sent in the order of the requests,
// those to reads too: OpenSSH's scp (9.2) cuts a file off, and says nothing,
// where the first reply came that was not the next.
//
// Where OpenSSH's behaviour would harm the work on images, this server
// differs: setstat changes the owner before the mode, so that the set-user-ID
// bit survives, and fifos are not opened.
package sftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"

	"buildenv/sshd/jail"

	"golang.org/x/sys/unix"
)

// errEnded is returned when the session is over before a request is.
var errEnded = errors.New("session ended")

// session is the state of one client. Its fields belong to the goroutine of
// Serve, except where a comment says otherwise.
type session struct {
	jail        *jail.Jail
	opts        Options
	log         *slog.Logger
	activity    *Activity // never nil
	start       string    // absolute; relative paths begin here
	initialised bool
	handles     handles
	accounts    accounts // as of the last opendir
	in          decoder  // of the current request
	noted       []any    // for its audit record

	done    <-chan struct{} // closed when the session is over
	reads   chan fileRead   // to the goroutines that read files
	reading sync.WaitGroup  // the reads that are under way
	replies chan queued     // to the goroutine that sends
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
	if opts.ListRequests {
		_, err := io.WriteString(rw, strings.Join(RequestNames(), "\n")+"\n")
		return err
	}
	s.greet()
	defer s.leave()

	received := make(chan *packet, queueLength)
	broken := make(chan error, 1)
	go func() {
		defer close(received)
		broken <- s.receive(ctx, rw, received)
	}()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		if err := s.transmit(rw); err != nil {
			cancel(err)
		}
	}()
	for range parallelReads {
		go s.readFiles()
	}

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
		jail:     j,
		opts:     opts,
		log:      opts.Log,
		activity: opts.Activity,
		start:    "/",
		handles:  handles{open: make(map[uint64]*handle)},
		done:     ctx.Done(),
		reads:    make(chan fileRead),
		replies:  make(chan queued, queueLength),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.activity == nil {
		s.activity = new(Activity)
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

// greet and leave say who came and went, in sshd's words.
func (s *session) greet() {
	for _, complaint := range s.opts.complaints {
		s.log.Error(complaint)
	}
	s.say(LogInfo, "session opened for local user %s from [%s]", s.opts.User, s.opts.Client)
}

// leave closes what the client left open.
func (s *session) leave() {
	for _, h := range s.handles.open {
		s.closeHandle(h, "forced ")
	}
	s.say(LogInfo, "session closed for local user %s from [%s]", s.opts.User, s.opts.Client)
}
