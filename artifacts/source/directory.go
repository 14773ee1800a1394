package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"buildenv/artifacts/rootfs"
)

// copier copies a directory tree. One goroutine walks and makes the entries,
// others fill the files.
type copier struct {
	*tree
	mount uint64           // the source's mount: others are not crossed
	names map[inode]string // first names of files that have several
	files *errgroup.Group
}

type inode struct {
	major, minor uint32
	number       uint64
}

// copyDirectory copies the tree below src, which is the operator's word and
// may be a link; links below it are copied, not followed. File systems that
// are mounted below it stay out: their mount points are copied as empty
// directories (Linux before 5.8 cannot tell, there they are copied).
func copyDirectory(ctx context.Context, t *tree, src string) error {
	dir, err := os.Open(src)
	if err != nil {
		return err
	}
	defer dir.Close()
	st, err := statAt(dir, ".")
	if err != nil {
		return err
	}
	files, ctx := errgroup.WithContext(ctx)
	files.SetLimit(runtime.GOMAXPROCS(0))
	c := &copier{tree: t, mount: st.Mnt_id, names: map[inode]string{}, files: files}
	err = c.walk(ctx, dir, ".", st)
	if failed := files.Wait(); failed != nil {
		return failed
	}
	return err
}

// walk copies an open directory. Subdirectories come last, so that the new
// root finds the parent of most entries where the entry before had it.
func (c *copier) walk(ctx context.Context, dir *os.File, name string, st unix.Statx_t) error {
	meta, err := metaAt(dir, ".", st)
	if err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	if err := c.directory(name, meta); err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	bases, err := dir.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	slices.Sort(bases)
	var subdirs []string
	for _, base := range bases {
		child := path.Join(name, base)
		st, err := statAt(dir, base)
		if err == nil {
			err = c.budget.entry(ctx)
		}
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			subdirs = append(subdirs, base)
			continue
		}
		if err == nil {
			err = c.copyEntry(ctx, dir, base, child, st)
		}
		if err != nil {
			return fmt.Errorf("%q: %w", child, err)
		}
	}
	for _, base := range subdirs {
		if err := c.descend(ctx, dir, base, path.Join(name, base)); err != nil {
			return err
		}
	}
	return nil
}

func (c *copier) descend(ctx context.Context, parent *os.File, base, name string) error {
	dir, err := openAt(parent, base, unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	defer dir.Close()
	st, err := statAt(dir, ".")
	if err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	if st.Mnt_id == c.mount {
		return c.walk(ctx, dir, name, st)
	}
	c.log.Warn("a file system mounted in the source is left out", "name", name)
	meta, err := metaAt(dir, ".", st)
	if err == nil {
		err = c.directory(name, meta)
	}
	if err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	return nil
}

// copyEntry copies anything but a directory.
func (c *copier) copyEntry(ctx context.Context, dir *os.File, base, name string, st unix.Statx_t) error {
	if st.Mnt_id != c.mount {
		c.log.Warn("a file mounted in the source is left out", "name", name)
		return nil
	}
	id := inode{st.Dev_major, st.Dev_minor, st.Ino}
	if first, seen := c.names[id]; seen {
		return c.link(name, first)
	}
	kind := uint32(st.Mode) & unix.S_IFMT
	if kind == unix.S_IFSOCK {
		c.log.Warn("a socket in the source is left out", "name", name)
		return nil
	}
	if st.Nlink > 1 {
		c.names[id] = name
	}
	if kind == unix.S_IFREG {
		return c.copyFile(ctx, dir, base, name)
	}
	meta, err := metaAt(dir, base, st)
	if err != nil {
		return err
	}
	if kind == unix.S_IFLNK {
		target, err := readlinkAt(dir, base)
		if err != nil {
			return err
		}
		return c.symlink(name, target, meta)
	}
	return c.node(name, kind, unix.Mkdev(st.Rdev_major, st.Rdev_minor), meta)
}

// copyFile makes the file at once, so that its name can be linked to, and
// leaves its content to a goroutine of the group.
func (c *copier) copyFile(ctx context.Context, dir *os.File, base, name string) error {
	src, err := openAt(dir, base, unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	st, err := statAt(src, "")
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errors.New("file changed its type while it was copied")
	}
	var meta rootfs.Meta
	if err == nil {
		meta, err = metaAt(dir, base, st)
	}
	var dst *os.File
	if err == nil {
		dst, err = c.file(name)
	}
	if err != nil {
		src.Close()
		return err
	}
	c.files.Go(func() error {
		defer src.Close()
		defer dst.Close()
		err := c.copyContent(ctx, dst, src, int64(st.Size))
		if err == nil {
			err = meta.Apply(dst, c.warn(name))
		}
		if err == nil {
			err = dst.Close()
		}
		if err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
		return nil
	})
	return nil
}
