package dir

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// WorkPrefix begins the name of a folder, beside the buckets, in which a process
// that has the store open may work. It is swept away if that process is killed.
const WorkPrefix = ".buildenv-"

// claim locks the folder together with all others who have it open. Whoever
// finds nobody else there sweeps first.
func claim(root *os.Root) (*os.File, error) {
	lock, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		err = sweep(root)
	}
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_SH)
	}
	if errors.Is(err, unix.ENOLCK) || errors.Is(err, unix.EOPNOTSUPP) {
		err = nil // a file system without locks is used without them
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}

// sweep removes what killed processes have left half done.
func sweep(root *os.Root) error {
	folder, err := root.Open(".")
	if err != nil {
		return err
	}
	defer folder.Close()
	names, err := folder.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, newPrefix) && !strings.HasPrefix(name, WorkPrefix) {
			continue
		}
		if err := root.RemoveAll(name); err != nil {
			return err
		}
	}
	return nil
}
