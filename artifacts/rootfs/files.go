package rootfs

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"

	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"
)

// ErrNotRegular is returned when something other than a regular file or
// directory is opened: a fifo would block, a device might do anything.
var ErrNotRegular = errors.New("neither a regular file nor a directory")

// Open opens a regular file or directory for reading. Links are followed inside the root.
func (r *Root) Open(name string) (*os.File, error) {
	handle, err := pathrs.OpenatInRoot(r.dir, "/"+name)
	if err != nil {
		return nil, fmt.Errorf("open: %q: %w", name, errno(err))
	}
	defer handle.Close()
	info, err := handle.Stat()
	if err != nil {
		return nil, fmt.Errorf("open: %q: %w", name, errno(err))
	}
	if !info.Mode().IsRegular() && !info.IsDir() {
		return nil, fmt.Errorf("open: %q: %w", name, ErrNotRegular)
	}
	f, err := pathrs.Reopen(handle, unix.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("open: %q: %w", name, errno(err))
	}
	return f, nil
}

// ReadFile reads a regular file of at most limit bytes, links followed inside the root.
func (r *Root) ReadFile(name string, limit int64) ([]byte, error) {
	f, err := r.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read: %q: %w", name, errno(err))
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read: %q: %w: more than %d bytes", name, unix.EFBIG, limit)
	}
	return data, nil
}

// Create makes a new regular file, open for writing, that only its owner may
// touch; metadata is the caller's to apply. The name must be free.
func (r *Root) Create(name string) (f *os.File, err error) {
	err = r.within("create", name, func(dir int, base string) error {
		f, err = createAt(dir, base)
		return err
	})
	return f, err
}

func createAt(dir int, base string) (*os.File, error) {
	fd, err := unix.Openat(dir, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), base), nil
}

// WriteFile makes name a regular file with this content and metadata. It
// replaces the name itself, never what a link of that name leads to, and a
// reader sees the old file or the whole new one. A directory is not replaced.
func (r *Root) WriteFile(name string, content io.Reader, meta Meta) error {
	defer r.forget()
	return r.within("write", name, func(dir int, base string) error {
		temporary := ".buildenv-" + rand.Text()
		f, err := createAt(dir, temporary)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, content)
		if err == nil {
			err = meta.Apply(f, nil)
		}
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		if err == nil {
			err = unix.Renameat(dir, temporary, dir, base)
		}
		if err != nil {
			return errors.Join(err, unix.Unlinkat(dir, temporary, 0))
		}
		return nil
	})
}
