package session

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal (pty(7)).
//
// The master is opened non-blocking and is never asked for its Fd, which would
// make it blocking: only so does Close wake a Read that waits, and may any
// goroutine close it, which hangs the terminal up. The slave is asked for its
// Fd when a process starts, so the goroutine that starts it must also be the
// one that closes it: a number that was closed in between would by then be
// the descriptor of another session.
type terminal struct {
	master, slave *os.File
	name          string // path of the slave, as the server sees it
}

// openTerminal needs no path of the slave, so it works where /dev/pts is that
// of another mount namespace or of none.
func openTerminal() (*terminal, error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open terminal: /dev/ptmx: %w", err)
	}
	master := os.NewFile(uintptr(fd), "/dev/ptmx")
	slave, number, err := openPeer(fd)
	if err != nil {
		master.Close()
		return nil, fmt.Errorf("open terminal: %w", err)
	}
	name := fmt.Sprintf("/dev/pts/%d", number)
	return &terminal{master: master, slave: os.NewFile(uintptr(slave), name), name: name}, nil
}

// openPeer unlocks the terminal and opens its other end (ioctl_tty(2)).
func openPeer(fd int) (slave, number int, err error) {
	if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return 0, 0, fmt.Errorf("unlock: %w", err)
	}
	if number, err = unix.IoctlGetInt(fd, unix.TIOCGPTN); err != nil {
		return 0, 0, fmt.Errorf("number: %w", err)
	}
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return 0, 0, fmt.Errorf("other end: %w", errno)
	}
	return int(peer), number, nil
}

// control runs an ioctl on the master; on Linux termios set there is the slave's.
func (t *terminal) control(f func(fd int) error) error {
	raw, err := t.master.SyscallConn()
	if err != nil {
		return err
	}
	var opErr error
	if err := raw.Control(func(fd uintptr) { opErr = f(int(fd)) }); err != nil {
		return err
	}
	return opErr
}

// window is a terminal's size as the protocol has it (RFC 4254, section 6.7):
// characters, then pixels.
type window struct{ Columns, Rows, Width, Height uint32 }

func (t *terminal) resize(w window) error {
	short := func(n uint32) uint16 { return uint16(min(n, 1<<16-1)) }
	size := &unix.Winsize{Col: short(w.Columns), Row: short(w.Rows), Xpixel: short(w.Width), Ypixel: short(w.Height)}
	return t.control(func(fd int) error { return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, size) })
}

// setModes applies terminal modes (RFC 4254, section 8) over the kernel's defaults.
func (t *terminal) setModes(modes string) error {
	return t.control(func(fd int) error {
		termios, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			return err
		}
		applyModes(termios, modes)
		return unix.IoctlSetTermios(fd, unix.TCSETS, termios)
	})
}

// allocate answers "pty-req" (RFC 4254, section 6.2). A terminal that cannot be
// had is refused; the client then goes on without.
func (s *session) allocate(payload []byte) bool {
	var v struct {
		Term                         string
		Columns, Rows, Width, Height uint32
		Modes                        string
	}
	if s.tty != nil || s.started || !s.Policy.PermitTTY || ssh.Unmarshal(payload, &v) != nil || strings.Contains(v.Term, "\x00") {
		return false
	}
	size := window{v.Columns, v.Rows, v.Width, v.Height}
	tty, err := openTerminal()
	if err == nil {
		err = tty.prepare(size, v.Modes)
	}
	if err != nil {
		s.Log.Warn("no terminal for a session; is /dev/pts mounted?", "error", err, "from", s.Remote)
		return false
	}
	tty.own(s.Account.UID)
	s.tty, s.term, s.size = tty, v.Term, size
	context.AfterFunc(s.ctx, func() { tty.master.Close() }) // the channel's end hangs up what still runs
	return true
}

// own gives the terminal to its user, and lets the group tty write to it, which is
// what write(1) and wall(1) do (pty_setowner in OpenSSH's sshpty.c). Where it may
// not be given away it works as it is.
func (t *terminal) own(uid int) {
	gid, mode := 0, os.FileMode(0o600)
	if group, err := user.LookupGroup("tty"); err == nil {
		gid, _ = strconv.Atoi(group.Gid)
		mode = 0o620
	}
	t.slave.Chown(uid, gid)
	t.slave.Chmod(mode)
}

// prepare sets modes first: a program that sees its size must see them too.
func (t *terminal) prepare(size window, modes string) error {
	err := t.setModes(modes)
	if err == nil {
		err = t.resize(size)
	}
	if err != nil {
		t.slave.Close()
		t.master.Close()
	}
	return err
}

// resize answers "window-change" at any time: the kernel keeps the newest size,
// so nothing queues up.
func (s *session) resize(payload []byte) bool {
	var w window
	if s.tty == nil || ssh.Unmarshal(payload, &w) != nil {
		return false
	}
	s.mu.Lock()
	s.size = w
	if s.recording != nil {
		s.recording.resize(w)
	}
	s.mu.Unlock()
	return s.tty.resize(w) == nil
}

// sendBreak answers "break" (RFC 4335). A pseudo-terminal has no line to break,
// but it can be asked to, which is all that sshd does.
func (s *session) sendBreak() bool {
	return s.tty != nil && s.tty.control(func(fd int) error { return unix.IoctlSetInt(fd, unix.TCSBRK, 0) }) == nil
}
