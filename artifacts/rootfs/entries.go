package rootfs

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"
)

// Lstat describes name itself, in the kernel's words.
func (r *Root) Lstat(name string) (st unix.Stat_t, err error) {
	err = r.within("lstat", name, func(dir int, base string) error {
		return unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	})
	return st, err
}

// Stat describes what name leads to, links followed inside the root.
func (r *Root) Stat(name string) (st unix.Stat_t, err error) {
	err = r.within("stat", name+"/.", func(dir int, _ string) error {
		return unix.Fstatat(dir, "", &st, unix.AT_EMPTY_PATH)
	})
	return st, err
}

// Readlink is the text of a symbolic link.
func (r *Root) Readlink(name string) (target string, err error) {
	err = r.within("read link", name, func(dir int, base string) error {
		buffer := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(dir, base, buffer)
		target = string(buffer[:max(n, 0)])
		return err
	})
	return target, err
}

// ReadDir lists the names in a directory, sorted. Links that lead to the
// directory are followed inside the root.
func (r *Root) ReadDir(name string) (names []string, err error) {
	err = r.within("read directory", name+"/.", func(dir int, _ string) error {
		fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), name)
		defer f.Close()
		names, err = f.Readdirnames(-1)
		return err
	})
	slices.Sort(names)
	return names, err
}

// Mkdir makes a directory with exactly the given permission bits.
func (r *Root) Mkdir(name string, mode uint32) error {
	return r.within("make directory", name, func(dir int, base string) error {
		if err := unix.Mkdirat(dir, base, 0o700); err != nil {
			return err
		}
		handle, err := openHandle(dir, base)
		if err != nil {
			return err
		}
		defer handle.Close()
		return unix.Chmod(fdPath(handle), mode)
	})
}

// MkdirAll makes a directory and the parents that it lacks.
func (r *Root) MkdirAll(name string, mode uint32) error {
	names, err := r.missing(name)
	if err != nil {
		return err
	}
	for _, dir := range names {
		if err := r.Mkdir(dir, mode); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// Symlink makes a link whose text is target, whatever that is.
func (r *Root) Symlink(target, name string) error {
	return r.within("make symlink", name, func(dir int, base string) error {
		return unix.Symlinkat(target, dir, base)
	})
}

// Link gives the file old the further name name. Both lie inside the root, and
// when old is a symbolic link it is the link that gets the name.
func (r *Root) Link(old, name string) error {
	source, err := r.Handle(old)
	if err != nil {
		return err
	}
	defer source.Close()
	return r.within("make hard link", name, func(dir int, base string) error {
		// AT_EMPTY_PATH wants CAP_DAC_READ_SEARCH, which containers lack; the
		// way through /proc is linkat(2)'s own advice.
		return unix.Linkat(unix.AT_FDCWD, fdPath(source), dir, base, unix.AT_SYMLINK_FOLLOW)
	})
}

// Mknod makes a device, fifo or socket; mode holds the type and the permission
// bits, which the umask reduces. Devices need CAP_MKNOD.
func (r *Root) Mknod(name string, mode uint32, device uint64) error {
	return r.within("make node", name, func(dir int, base string) error {
		return unix.Mknodat(dir, base, mode, int(device))
	})
}

// Remove removes a file or an empty directory.
func (r *Root) Remove(name string) error {
	defer r.forget()
	return r.within("remove", name, func(dir int, base string) error {
		err := unix.Unlinkat(dir, base, 0)
		if errors.Is(err, unix.EISDIR) {
			err = unix.Unlinkat(dir, base, unix.AT_REMOVEDIR)
		}
		return err
	})
}

// Rename gives old the name name and replaces what had it, as rename(2) does.
func (r *Root) Rename(old, name string) error {
	defer r.forget()
	parent, oldBase := split(old)
	from, err := pathrs.OpenatInRoot(r.dir, "/"+parent)
	if err != nil {
		return &fs.PathError{Op: "rename", Path: old, Err: errno(err)}
	}
	defer from.Close()
	return r.within("rename "+strings.Trim(old, "/"), name, func(dir int, base string) error {
		return unix.Renameat(int(from.Fd()), oldBase, dir, base)
	})
}
