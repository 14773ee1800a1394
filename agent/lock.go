package agent

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrBusy is returned when another agent works on the same image root's parent.
var ErrBusy = errors.New("another build environment is at work there")

// Lock claims a directory for this process until the process ends, however it
// ends: the kernel drops a flock(2) with the last descriptor, so that a killed
// agent leaves nothing to clean up. File systems that cannot lock are used
// without one.
func Lock(dir string) (release func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("lock image root parent: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		f.Close()
		return nil, fmt.Errorf("lock image root parent: %s: %w; stop it first, or give this one a parent of its own", dir, ErrBusy)
	}
	return func() { f.Close() }, nil
}

// Locked tells whether an agent that this process can see is at work on dir. It
// reads the kernel's list of locks (proc_locks(5)): taking the lock to find out
// could turn away an agent that is just starting.
func Locked(dir string) (bool, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return false, fmt.Errorf("look for an agent: %s: %w", dir, err)
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return false, fmt.Errorf("look for an agent: %w", err)
	}
	file := fmt.Sprintf(" %02x:%02x:%d ", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for line := range strings.Lines(string(locks)) {
		if strings.Contains(line, "FLOCK") && strings.Contains(line, file) {
			return true, nil
		}
	}
	return false, nil
}
