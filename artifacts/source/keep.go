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

func (o Options) keeps() bool { return o.Keep == KeepAuto || o.Keep == KeepAlways }

// plenty is how many times the archive's size must be free for a copy of it: the
// root and the next archive have to fit, too.
const plenty = 8

// plentyLeft is the same for one that has been fetched, when it and the root are
// there already.
const plentyLeft = 3

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
	if !opts.keeps() {
		return src, nil
	}
	err := keepAs(src, archive, opts.Keep == KeepAlways)
	switch {
	case err == nil:
		return archive, nil
	case opts.Keep == KeepAlways:
		return "", fmt.Errorf("keep the source: %w", err)
	}
	opts.notKept(err)
	return src, nil
}

func (o Options) notKept(why error) {
	o.Log.Info("the source is not kept, packing the root will compress all of it", "reason", why)
}

// keepFetched keeps what has been fetched for the root dst and opens it; nil if it
// is not kept.
func keepFetched(d arriving, dst string, opts Options) (*os.File, error) {
	if !opts.keeps() {
		return nil, nil
	}
	archive, _ := Kept(dst)
	_, size := d.Done()
	if err := mustHave(size, plentyLeft, filepath.Dir(dst)); err != nil && opts.Keep == KeepAuto {
		opts.notKept(err)
		return nil, nil
	}
	if err := d.Keep(archive); err != nil {
		return nil, err
	}
	return os.Open(archive)
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
	return mustHave(info.Size(), plenty, dir)
}

// mustHave is an error unless so many times a size is free in dir.
func mustHave(size int64, times uint64, dir string) error {
	var free unix.Statfs_t
	if err := unix.Statfs(dir, &free); err != nil {
		return os.NewSyscallError("statfs", err)
	}
	if free.Bavail/times < uint64(size/free.Bsize) {
		return errSpace
	}
	return nil
}
