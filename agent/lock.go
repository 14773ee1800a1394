package agent

import (
	"errors"
	"fmt"
	"os"

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
