// Package source makes an image root out of what an image is kept in: a
// directory, a tar archive (plain, gzip or zstd) or a squashfs file, or one of the
// files by its URL, which is unpacked while it arrives. What it is, its content
// says, not its name.
//
//	err := source.Unpack(ctx, "image.sqsh", "/mnt/image/image-root", source.Options{})
//
// Everything that a root can hold comes along: numeric owners, modes with
// setuid bits, times to the nanosecond, extended attributes of all namespaces,
// hard links, devices, fifos, holes in files, and names that are not UTF-8.
// Sockets stay behind, as they mean nothing without their process.
//
// Archives are hostile: entries stay inside the new root whatever links and
// names they hold, and their number and size are bounded. The new root appears
// under its name when it is whole, never before.
package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"buildenv/artifacts/rootfs"
)

// Bounds that no sane image root reaches.
const (
	defaultMaxBytes   = 256 << 30
	defaultMaxEntries = 20_000_000
)

// ErrTooBig is returned when a source holds more than the options allow.
var ErrTooBig = errors.New("more than the limit")

// Options say how a source is unpacked. The zero value means the defaults.
type Options struct {
	// Progress is told now and then how many bytes of content have been written,
	// total being 0 as nobody knows it; for a squashfs it is how many bytes of the
	// archive have been read. nil is nobody to tell. Calls do not overlap.
	Progress func(done, total int64)
	// MaxBytes bounds the content of all files, holes included; 0 means 256 GiB.
	MaxBytes int64
	// MaxEntries bounds the number of names; 0 means 20 million.
	MaxEntries int64
	// Keep says whether a squashfs is kept, under the names that Kept gives.
	Keep Keep
	// Fetch is for a source that is a URL.
	Fetch FetchOptions
	// Log is told about what could not be kept and is no reason to stop; nil for nobody.
	Log *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.Progress == nil {
		o.Progress = func(_, _ int64) {}
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultMaxBytes
	}
	if o.MaxEntries == 0 {
		o.MaxEntries = defaultMaxEntries
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Unpack makes an image root at dst out of src. dst must not exist, its parent
// must. It works under a temporary name beside dst (".<name>.unpacking", which
// is cleared first: an earlier attempt may have crashed) and renames at the
// end, so that dst is whole or absent. On an error, or when ctx is cancelled,
// nothing stays, but for what has been fetched (".<name>.download") when only the
// network or a signal was the reason: the next call goes on with it.
//
// Owners, devices and most attributes need root's privileges.
func Unpack(ctx context.Context, src, dst string, opts Options) error {
	if err := unpack(ctx, src, dst, opts.withDefaults()); err != nil {
		return fmt.Errorf("unpack: %s: %w", Show(src), err)
	}
	return nil
}

func unpack(ctx context.Context, src, dst string, opts Options) (err error) {
	fill, err := fillerOf(src, dst)
	if err != nil {
		return err
	}
	switch _, err := os.Lstat(dst); {
	case err == nil:
		return fmt.Errorf("%s: %w", dst, fs.ErrExist)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	dst = filepath.Clean(dst)
	temporary := filepath.Join(filepath.Dir(dst), "."+filepath.Base(dst)+".unpacking")
	if err := clearAttempts(temporary); err != nil {
		return fmt.Errorf("clear an earlier attempt: %w", err)
	}
	if err := errors.Join(forgetEarlier(src, dst), OverlayOf(dst).Discard()); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(temporary), forgetKept(dst))
		}
	}()
	if err := fill(ctx, src, dst, temporary, opts); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return os.Rename(temporary, dst)
}

// clearAttempts removes what attempts that were killed have left: the directory
// temporary, and those beside it that squashfs.Unpack makes it of.
func clearAttempts(temporary string) error {
	beside, err := os.ReadDir(filepath.Dir(temporary))
	if err != nil {
		return err
	}
	err = os.RemoveAll(temporary)
	for _, entry := range beside {
		if strings.HasPrefix(entry.Name(), "."+filepath.Base(temporary)+".tmp-") {
			err = errors.Join(err, os.RemoveAll(filepath.Join(filepath.Dir(temporary), entry.Name())))
		}
	}
	return err
}

// filler makes the directory temporary, which will be dst, of what src names.
type filler func(ctx context.Context, src, dst, temporary string, opts Options) error

func fillerOf(src, dst string) (filler, error) {
	if Remote(src) {
		return unpackFetched, nil
	}
	kind, err := recognise(src)
	if err != nil {
		return nil, err
	}
	switch kind {
	case squashfsFile:
		return unpackSquashfs, nil
	case directory:
		return unpackDirectory, outside(src, dst)
	}
	return func(ctx context.Context, src, _, temporary string, opts Options) error {
		return build(temporary, opts, func(t *tree) error { return unpackTarFile(ctx, t, src, kind) })
	}, nil
}

func unpackDirectory(ctx context.Context, src, _, temporary string, opts Options) error {
	return build(temporary, opts, func(t *tree) error { return copyDirectory(ctx, t, src) })
}

// build makes the directory path and lets fill make the tree in it. Until it
// is whole nobody else may enter: it may hold setuid files of any origin.
func build(path string, opts Options, fill func(*tree) error) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	root, err := rootfs.OpenPrivate(path)
	if err != nil {
		return err
	}
	defer root.Close()
	t := newTree(root, opts)
	if err := fill(t); err != nil {
		return err
	}
	return t.finish()
}

// outside refuses a destination inside the source, which would copy itself for ever.
func outside(src, dst string) error {
	source, err := os.Stat(src)
	if err != nil {
		return err
	}
	parent, err := filepath.Abs(filepath.Dir(filepath.Clean(dst)))
	if err == nil {
		parent, err = filepath.EvalSymlinks(parent)
	}
	if err != nil {
		return err
	}
	for {
		info, err := os.Stat(parent)
		if err != nil {
			return err
		}
		if os.SameFile(source, info) {
			return fmt.Errorf("%s: %w: lies inside the source", dst, unix.EINVAL)
		}
		if parent == "/" {
			return nil
		}
		parent = filepath.Dir(parent)
	}
}
