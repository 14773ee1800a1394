package authkeys

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// CheckOwnership is StrictModes (sshd_config(5)): a key file counts only if
// nobody but the user and root could have written it. The file and every
// directory above it, up to home or else to /, must belong to root or to uid
// and be writable by neither group nor others. Symbolic links in path and home
// are followed first. The error carries sshd's words and what to do.
func CheckOwnership(path, home string, uid int) error {
	path, err := canonical(path)
	if err != nil {
		return refused("%w", err)
	}
	if err := checkFile(path, uid); err != nil {
		return err
	}
	last, err := canonical(home)
	if home == "" || err != nil {
		last = "/"
	}
	for path != "/" && path != last {
		path = filepath.Dir(path)
		if err := checkDirectory(path, uid); err != nil {
			return err
		}
	}
	return nil
}

// canonical is realpath(3).
func canonical(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

func checkFile(path string, uid int) error {
	info, err := os.Stat(path)
	if err != nil {
		return refused("%w", err)
	}
	if !info.Mode().IsRegular() {
		return refused("%s is not a regular file", path)
	}
	return checkOwner("file", path, info, uid)
}

func checkDirectory(path string, uid int) error {
	info, err := os.Stat(path)
	if err != nil {
		return refused("%w", err)
	}
	return checkOwner("directory", path, info, uid)
}

func checkOwner(what, path string, info os.FileInfo, uid int) error {
	owner := int(info.Sys().(*syscall.Stat_t).Uid)
	if owner != 0 && owner != uid {
		return refused("bad ownership or modes for %s %s: it belongs to uid %d: run chown %d %s", what, path, owner, uid, path)
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		repair := "run chmod go-w " + path
		if info.Mode()&os.ModeSticky != 0 { // /tmp and the like are for everybody, and must stay so
			repair = "keep the keys somewhere else"
		}
		return refused("bad ownership or modes for %s %s: its mode is %04o: %s", what, path, mode, repair)
	}
	return nil
}

// refused keeps the words that administrators know from sshd's log.
func refused(format string, args ...any) error {
	return fmt.Errorf("Authentication refused: "+format, args...)
}
