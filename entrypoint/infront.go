package entrypoint

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// sshd has a process that listens and others for its sessions, which outlive it.
// A program of several threads cannot fork, so the listener is two here: the one
// that was started, in front, and the one that serves, behind it, the same
// program started again. The one in front stays with -D, to be waited for and
// signalled, until the other one listens no more; otherwise it leaves once clients
// can connect. Reasons why they cannot, the one behind tells itself, on the
// stderr that both have until then.

// The first argument of a process behind another. sshd has no options that begin
// like them.
const (
	behindOne   = "--behind"     // which stays
	behindNoOne = "--background" // which leaves
)

// newsFD is where a process behind tells the one in front of itself, a byte each time.
const newsFD = 3

const (
	newsServing byte = iota + 1 // clients can connect
	newsLeaving                 // they cannot any more
)

// inFront starts the command again behind this process. as is one of the
// arguments above, program what the command line has before args.
func inFront(as string, program, args []string, tell func(state string)) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGHUP, unix.SIGTERM, unix.SIGINT)
	defer signal.Stop(signals)
	child, news, err := startBehind(slices.Concat(program, []string{as}, args))
	if err != nil {
		return fmt.Errorf("start the server's own process: %w", err)
	}
	for {
		select {
		case s := <-signals:
			child.Signal(s)
			if s == unix.SIGHUP {
				tell(serviceReloading())
				tell(serviceReady)
			}
		case said, more := <-news:
			switch {
			case !more:
				return endOf(child)
			case said == newsServing && as == behindOne:
				tell(serviceReady)
			default:
				return child.Release()
			}
		}
	}
}

// startBehind starts argv without a terminal. news ends when the process has told
// everything, or has ended.
func startBehind(argv []string) (child *os.Process, news <-chan byte, err error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	defer null.Close()
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer writer.Close()
	child, err = os.StartProcess("/proc/self/exe", argv, &os.ProcAttr{
		Env:   os.Environ(),
		Files: []*os.File{null, null, os.Stderr, writer},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		reader.Close()
		return nil, nil, err
	}
	told := make(chan byte)
	go func() { // ends with the other process, or with this one
		defer close(told)
		defer reader.Close()
		for b := make([]byte, 1); ; told <- b[0] {
			if n, _ := reader.Read(b); n == 0 {
				return
			}
		}
	}()
	return child, told, nil
}

// endOf is the end of a process, which has told the reason itself.
func endOf(child *os.Process) error {
	state, err := child.Wait()
	if err != nil {
		return fmt.Errorf("wait for the server's own process: %w", err)
	}
	code := exitCode(unix.WaitStatus(state.Sys().(syscall.WaitStatus)))
	if code == exitDone {
		return nil
	}
	return told{exit: code}
}

// front is the process in front of this one. The zero front is none.
type front struct {
	news  *os.File // nil for none
	stays bool
}

// takeFront recognises a process behind another by its arguments.
func takeFront(args []string) (front, []string) {
	if len(args) == 0 || args[0] != behindOne && args[0] != behindNoOne {
		return front{}, args
	}
	return front{os.NewFile(newsFD, "news"), args[0] == behindOne}, args[1:]
}

// left tells whether this process is in the background.
func (f front) left() bool { return f.news != nil && !f.stays }

// serving lets the one in front leave. stderr may be a terminal, or a pipe that
// somebody reads to its end: it is let go unless the log goes there.
func (f front) serving(logsToStderr bool) error {
	if f.left() {
		defer f.news.Close()
	}
	if f.left() || f.stays && !logsToStderr {
		if err := closeStderr(); err != nil {
			return err
		}
	}
	return f.say(newsServing)
}

func (f front) say(news byte) error {
	if f.news == nil {
		return nil
	}
	if _, err := f.news.Write([]byte{news}); err != nil {
		return fmt.Errorf("tell the process in front: %w", err)
	}
	return nil
}

// leaving lets the one in front leave that has stayed.
func (f front) leaving() {
	if f.stays {
		f.say(newsLeaving) // it may have been killed
		f.news.Close()
	}
}

// pid is the process that other programs know the server by.
func (f front) pid() int {
	if f.stays {
		return os.Getppid()
	}
	return os.Getpid()
}

// watch is ctx until the one in front is killed: sshd's listener would be gone then.
func (f front) watch(ctx context.Context) context.Context {
	if !f.stays {
		return ctx
	}
	ctx, cancel := context.WithCancel(ctx)
	fd := int32(f.news.Fd())
	go func() { // ends with the one in front, at the latest
		for {
			if _, err := unix.Poll([]unix.PollFd{{Fd: fd}}, -1); err != unix.EINTR {
				cancel()
				return
			}
		}
	}()
	return ctx
}

func closeStderr() error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("go to the background: %w", err)
	}
	defer null.Close()
	if err := unix.Dup3(int(null.Fd()), 2, 0); err != nil {
		return fmt.Errorf("go to the background: %w", err)
	}
	return nil
}

// keepToOurselves closes files that the program was started with, a lock of who
// started it for one, to all that it starts: the sessions, and itself behind.
func keepToOurselves() {
	unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) // old kernels cannot
}
