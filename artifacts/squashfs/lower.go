package squashfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNotLower is returned for an archive that would look different as the lower
// layer of an overlay.
var ErrNotLower = errors.New("the archive cannot be the lower layer of an overlay")

// PrepareLower readies an archive to be the lower layer of an overlay whose upper
// directory, empty so far, is dir: what the archive holds is within what opts
// allow, and nothing in it means something to an overlay; dir looks like the
// archive's root, which it will hide; and opts.Record says what the archive's file
// looks like, for packing. Directories in the lower layer cannot be renamed, so
// none may have a path that fixed lists. Nothing is mounted.
func PrepareLower(archive, dir string, fixed []string, opts UnpackOptions) error {
	if err := prepareLower(archive, dir, fixed, opts); err != nil {
		return fmt.Errorf("prepare %s: %w", archive, err)
	}
	return nil
}

func prepareLower(archive, dir string, fixed []string, opts UnpackOptions) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	a, err := Open(f)
	if err != nil {
		return err
	}
	seen, err := newIdentities(f)
	if err != nil {
		return err
	}
	if err := a.checkLower(fixed, opts); err != nil {
		return err
	}
	if err := a.finishAs(dir); err != nil {
		return err
	}
	if seen.taken, err = fileClock(dir); err != nil {
		return err
	}
	return seen.write(opts.Record)
}

// ErrLowerChanged is returned for an archive that was written to, or replaced,
// since it is the lower layer of an overlay: what the overlay shows then is
// neither the old nor the new one.
var ErrLowerChanged = errors.New("the archive below the overlay was written to since the image root was made of it")

// CheckLower tells by the record that PrepareLower has made whether an archive can
// still be the lower layer. Without a record it is believed.
func CheckLower(archive, record string) error {
	d, err := readIdentities(record)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	now, err := stampFile(int(f.Fd()))
	if err != nil {
		return err
	}
	return d.intact(archive, now)
}

// intact says that an archive has not been written to. A copy that kept its time
// is as good.
func (d *identities) intact(archive string, now stamp) error {
	if now.size == d.archive.size && now.mtime == d.archive.mtime {
		return nil
	}
	return fmt.Errorf("%s: %w", archive, ErrLowerChanged)
}

// checkLower looks for devices 0:0, which an overlay takes for names that have
// been removed, and for its own attributes (overlayfs.rst, whiteouts and opaque
// directories).
func (a *Archive) checkLower(fixed []string, opts UnpackOptions) error {
	checked := map[uint32]bool{noXattr: true} // sets of attributes
	return a.Walk(func(path string, i *Inode) error {
		if opts.Allow != nil {
			if err := opts.Allow(int64(i.Size)); err != nil {
				return err
			}
		}
		if i.format() == unix.S_IFCHR && i.Device == 0 {
			return fmt.Errorf("%w: %.300q is a device 0:0", ErrNotLower, path)
		}
		if i.isDirectory() && slices.Contains(fixed, path) {
			return fmt.Errorf("%w: %q is a directory, which could not be set aside", ErrNotLower, path)
		}
		if checked[i.xattrs] {
			return nil
		}
		checked[i.xattrs] = true
		list, err := a.Xattrs(i)
		for _, x := range list {
			if strings.HasPrefix(x.Name, overlayPrefix) {
				return fmt.Errorf("%w: %.300q has the attribute %.300q", ErrNotLower, path, x.Name)
			}
		}
		return err
	})
}

// finishAs gives a directory the metadata of the archive's root.
func (a *Archive) finishAs(dir string) error {
	root, err := a.inode(ref(a.sb.Root))
	if err != nil {
		return err
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	defer unix.Close(fd)
	u := &unpacker{archive: a, uid: ^root.UID, gid: ^root.GID} // of whatever owner it is now
	return u.finish(fd, func() string { return "." }, root)
}
