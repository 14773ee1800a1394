package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"buildenv/internal/fsx"
)

// Keep says whether the squashfs that a root is unpacked from is kept beside it,
// so that packing the root again need not compress what has not changed.
type Keep string

// What Keep may be. The zero value is KeepNever.
const (
	KeepAuto   Keep = "auto"   // if it takes no space, or there is plenty
	KeepAlways Keep = "always" // or unpacking fails
	KeepNever  Keep = "never"
)

// Kept are the names of the archive that is kept for a root and of the record of
// what its files looked like.
func Kept(root string) (archive, record string) {
	name := filepath.Join(filepath.Dir(root), "."+filepath.Base(root)+".source")
	return name, name + ".record"
}

// plenty is how many times the archive's size must be free for a copy of it: the
// root and the next archive have to fit, too.
const plenty = 8

// forgetKept removes what was kept for an earlier root of that name.
func forgetKept(root string) error {
	archive, record := Kept(root)
	for _, old := range []string{archive, record} {
		if err := os.Remove(old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("clear an earlier attempt: %w", err)
		}
		if err := fsx.RemoveLeft(old); err != nil {
			return fmt.Errorf("clear an earlier attempt: %w", err)
		}
	}
	return nil
}

// keep keeps the archive src for the root dst and returns the name under which it
// is unpacked.
func keep(src, dst string, opts Options) (string, error) {
	archive, _ := Kept(dst)
	if opts.Keep == KeepNever || opts.Keep == "" {
		return src, nil
	}
	err := keepAs(src, archive, opts.Keep == KeepAlways)
	switch {
	case err == nil:
		return archive, nil
	case opts.Keep == KeepAlways:
		return "", fmt.Errorf("keep the source: %w", err)
	}
	opts.Log.Info("the source is not kept, packing the root will compress all of it", "reason", err)
	return src, nil
}

// keepAs gives src another name: as a copy that shares its blocks, where the
// file system can do that, as a link, or as a copy.
func keepAs(src, name string, always bool) error {
	from, err := os.Open(src)
	if err != nil {
		return err
	}
	defer from.Close()
	if err := clone(from, name); err == nil {
		return nil
	}
	if unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", from.Fd()), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW) == nil {
		return nil
	}
	if !always {
		if err := mustHavePlenty(from, filepath.Dir(name)); err != nil {
			return err
		}
	}
	return copyTo(from, name)
}

// clone is a copy that shares its blocks (ioctl_ficlone(2)).
func clone(from *os.File, name string) error {
	f, err := fsx.Create(name, 0o600)
	if err != nil {
		return err
	}
	defer f.Discard()
	if err := unix.IoctlFileClone(int(f.Fd()), int(from.Fd())); err != nil {
		return err
	}
	return f.Commit()
}

func copyTo(from *os.File, name string) error {
	f, err := fsx.Create(name, 0o600)
	if err != nil {
		return err
	}
	defer f.Discard()
	if _, err := io.Copy(f, from); err != nil {
		return err
	}
	return f.Commit()
}

var errSpace = errors.New("there is not enough space")

func mustHavePlenty(archive *os.File, dir string) error {
	info, err := archive.Stat()
	if err != nil {
		return err
	}
	var free unix.Statfs_t
	if err := unix.Statfs(dir, &free); err != nil {
		return os.NewSyscallError("statfs", err)
	}
	if free.Bavail/plenty < uint64(info.Size()/free.Bsize) {
		return errSpace
	}
	return nil
}
