package session

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"buildenv/internal/fsx"
)

// errNotRecorded is returned when output has nowhere to be recorded.
var errNotRecorded = errors.New("record terminal: the recording has failed")

// pendingEvents is how many events may wait for the disk, each of at most a
// chunk; a terminal gives 4 KiB at a time.
const pendingEvents = 512

// recording is what one terminal shows, on its way to a file. A goroutine
// writes it, so that a slow disk is not the client's; only where a recording is
// required does output wait for room.
//
// What the user types is not recorded: it has passwords in it. What the
// terminal echoes is output.
type recording struct {
	required bool
	start    time.Time
	events   chan event
	sizes    chan window   // the newest one only, as nothing may wait for it
	stop     chan struct{} // closed when no more will come
	dead     chan struct{} // closed when nothing more can be written
	done     chan struct{} // closed when the file is
	failed   func(error)   // called once when writing fails

	mu   sync.Mutex // protects the following
	lost int        // bytes that there was no room for
}

type event struct {
	at   time.Duration
	data []byte
}

// output records p before the client sees it. It is an error if it cannot be
// and must be.
func (r *recording) output(p []byte) error {
	select {
	case <-r.dead:
		return r.verdict()
	default:
	}
	e := event{time.Since(r.start), bytes.Clone(p)}
	if !r.required {
		r.offer(e)
		return nil
	}
	select {
	case r.events <- e:
		return nil
	case <-r.dead:
		return errNotRecorded
	case <-r.done:
		return nil // a message to a terminal whose job has ended
	}
}

// offer does not wait for room.
func (r *recording) offer(e event) {
	select {
	case r.events <- e:
	default:
		r.mu.Lock()
		defer r.mu.Unlock()
		r.lost += len(e.data)
	}
}

func (r *recording) verdict() error {
	if r.required {
		return errNotRecorded
	}
	return nil
}

// resize never waits. One goroutine calls it.
func (r *recording) resize(w window) {
	select {
	case <-r.sizes:
	default:
	}
	r.sizes <- w
}

// write is the goroutine that owns the file.
func (r *recording) write(f *os.File, term, shell string, size window) {
	defer close(r.done)
	w := bufio.NewWriterSize(f, chunk)
	c := &cast{w: w}
	err := c.begin(size, r.start, term, shell)
	for more := true; err == nil && more; {
		if len(r.events) == 0 {
			err = w.Flush() // who follows the file sees what the user sees
		}
		if err == nil {
			more, err = r.next(c)
		}
	}
	if err == nil {
		err = errors.Join(c.end(), w.Flush(), f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		close(r.dead)
		r.failed(err)
	}
}

// next writes one event. It says whether there may be more.
func (r *recording) next(c *cast) (more bool, err error) {
	select {
	case e := <-r.events:
		return true, r.put(c, e)
	default:
	}
	select {
	case e := <-r.events:
		return true, r.put(c, e)
	case size := <-r.sizes:
		return true, c.resize(time.Since(r.start), size)
	case <-r.stop:
		return len(r.events) > 0, nil
	}
}

// put writes output, and before it how much is missing there.
func (r *recording) put(c *cast, e event) error {
	r.mu.Lock()
	lost := r.lost
	r.lost = 0
	r.mu.Unlock()
	if lost > 0 {
		if err := c.mark(e.at, fmt.Sprintf("%d bytes of output are missing about here", lost)); err != nil {
			return err
		}
	}
	return c.output(e.at, e.data)
}

// finish waits until all that came is in the file, or cannot be.
func (r *recording) finish() {
	close(r.stop)
	<-r.done
}

// stopRecording ends the recording of the session's terminal, if there is one.
func (s *session) stopRecording() {
	s.mu.Lock()
	r := s.recording
	s.mu.Unlock()
	if r != nil {
		r.finish()
	}
}

// record begins the recording of the session's terminal, if there is to be one.
// It is an error only if there must be one.
func (s *session) record(shell string) error {
	if s.tty == nil || s.Recordings.Dir == "" {
		return nil
	}
	f, err := s.Recordings.create(s.recordingName(time.Now()), s.Jail)
	if err != nil {
		return s.notRecorded(err)
	}
	r := &recording{
		required: s.Recordings.Required, start: time.Now(),
		events: make(chan event, pendingEvents), sizes: make(chan window, 1),
		stop: make(chan struct{}), dead: make(chan struct{}), done: make(chan struct{}),
		failed: s.recordingFailed,
	}
	s.mu.Lock()
	s.recording = r
	size := s.size
	s.mu.Unlock()
	s.out.record(r)
	go r.write(f, s.term, shell, size) // ends with finish, or when it cannot write
	s.Log.Log(s.ctx, LevelVerbose, "terminal recorded", "file", f.Name(), "user", s.Account.Name, "from", s.Remote)
	return nil
}

// notRecorded warns, or makes an error of it.
func (s *session) notRecorded(err error) error {
	if s.Recordings.Required {
		s.Log.Error("terminal refused: it cannot be recorded", "error", err, "user", s.Account.Name, "from", s.Remote)
		return err
	}
	s.Log.Warn("terminal is not recorded", "error", err, "user", s.Account.Name, "from", s.Remote)
	return nil
}

// recordingFailed is called when a recording breaks off. Where it is required,
// the terminal is hung up.
func (s *session) recordingFailed(err error) {
	if s.notRecorded(fmt.Errorf("record terminal: %w", err)) == nil {
		return
	}
	s.say(crlf{unrecorded{s.out}}, "the recording of this terminal cannot be written, so the terminal ends here")
	s.cancel()
	s.close()
}

// recordingName is unique as long as the server runs.
func (s *session) recordingName(now time.Time) string {
	user := strings.Map(func(r rune) rune {
		if r == '/' || r <= ' ' || r > '~' {
			return '_'
		}
		return r
	}, s.Account.Name)
	return fmt.Sprintf("%s-%s-%d-%d", now.UTC().Format("20060102T150405Z"), user, s.Connection, s.number)
}

// create makes a file for a recording, which nobody else has or can open under
// its name. The directory may not lie in the jail: its users could change what
// is recorded of them.
func (r Recordings) create(name, jail string) (*os.File, error) {
	dir, err := r.open(jail)
	if err != nil {
		return nil, fmt.Errorf("record terminal: %w", err)
	}
	defer dir.Close()
	for _, again := range []string{"", "-2", "-3", "-4"} { // after a restart numbers begin anew
		file := name + again + ".cast"
		var fd int
		fd, err = unix.Openat(int(dir.Fd()), file, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err == nil {
			return os.NewFile(uintptr(fd), filepath.Join(r.Dir, file)), nil
		}
		if !errors.Is(err, unix.EEXIST) {
			break
		}
	}
	return nil, fmt.Errorf("record terminal: %s/%s.cast: %w", r.Dir, name, err)
}

// open makes the directory if there is none. Nothing is made in a jail.
func (r Recordings) open(jail string) (*os.File, error) {
	existing := r.Dir
	for _, err := os.Lstat(existing); errors.Is(err, fs.ErrNotExist); _, err = os.Lstat(existing) {
		existing = filepath.Dir(existing)
	}
	parent, err := openOutside(existing, jail)
	if err != nil {
		return nil, err
	}
	parent.Close()
	if err := os.MkdirAll(r.Dir, 0o700); err != nil {
		return nil, err
	}
	return openOutside(r.Dir, jail) // which may be another one by now
}

func openOutside(name, jail string) (*os.File, error) {
	dir, err := os.OpenFile(name, unix.O_DIRECTORY, 0)
	if err != nil || jail == "" {
		return dir, err
	}
	if err := fsx.Outside(dir, jail); err != nil {
		dir.Close()
		return nil, err
	}
	return dir, nil
}
