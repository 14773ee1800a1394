package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"buildenv/artifacts/rootfs"
	"buildenv/artifacts/squashfs"
)

// Mode says how a source becomes an image root.
type Mode string

// What Mode may be.
const (
	ModeUnpack  Mode = "unpack"
	ModeOverlay Mode = "overlay" // mounted, with a layer on top for what is changed
	ModeAuto    Mode = "auto"    // mounted if that can be done, else unpacked
)

// OverlayOf is the overlay that the root is, or would be.
func OverlayOf(root string) rootfs.Overlay {
	if whole, err := filepath.Abs(root); err == nil {
		root = whole
	}
	parent := filepath.Dir(root)
	if real, err := filepath.EvalSymlinks(parent); err == nil { // the kernel lists mounts by such paths
		parent = real
	}
	name := filepath.Base(root)
	archive, _ := Kept(filepath.Join(parent, name))
	return rootfs.Overlay{Root: filepath.Join(parent, name), Archive: archive, Layers: filepath.Join(parent, "."+name+".overlay")}
}

// Make makes an image root at dst out of src, as mode says and as [Unpack] has it.
func Make(ctx context.Context, mode Mode, src, dst string, opts Options) error {
	if mode == ModeUnpack {
		return Unpack(ctx, src, dst, opts)
	}
	opts = opts.withDefaults()
	err := mount(ctx, src, dst, opts)
	switch {
	case err == nil:
		opts.Log.Info("the image root is an overlay on its source", "root", dst)
		return nil
	case mode == ModeOverlay || ctx.Err() != nil || errors.Is(err, fs.ErrExist):
		return fmt.Errorf("mount: %s: %w", Show(src), err)
	}
	opts.Log.Info("the image root is unpacked, not mounted", "reason", err)
	return Unpack(ctx, src, dst, opts)
}

// Reasons why a source is not mounted.
var (
	errNotMountable = errors.New("only a squashfs can be mounted")
	errNotHere      = errors.New("what is fetched is unpacked while it arrives")
	errNotKept      = errors.New("the archive must be kept beside the root")
)

// mount makes dst an overlay on src, or leaves nothing.
func mount(ctx context.Context, src, dst string, opts Options) (err error) {
	if Remote(src) {
		return errNotHere
	}
	kind, err := recognise(src)
	if err != nil {
		return err
	}
	if kind != squashfsFile {
		return errNotMountable
	}
	if _, err := os.Lstat(dst); err == nil {
		return fmt.Errorf("%s: %w", dst, fs.ErrExist)
	}
	if opts.Keep == KeepNever || opts.Keep == "" {
		return errNotKept
	}
	if err := rootfs.MayMount(); err != nil {
		return err
	}
	o := OverlayOf(dst)
	if err := errors.Join(forgetKept(dst), o.Discard()); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.Discard(), forgetKept(dst))
		}
	}()
	archive, err := keep(src, dst, opts)
	if err != nil {
		return err
	}
	if archive == src {
		return errNotKept
	}
	err = o.Make(func(upper string) error { return prepareLower(ctx, archive, dst, upper, opts) })
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = o.Mount()
	}
	return err
}

// setAside are what a job gives another name while it lasts, if they are in its
// way: what it lends the root, and the users' markers.
var setAside = []string{"etc/resolv.conf", "tmp/complete", "tmp/failed"}

func prepareLower(ctx context.Context, archive, dst, upper string, opts Options) error {
	b := &budget{maxBytes: opts.MaxBytes, maxEntries: opts.MaxEntries, progress: func(int64) {}}
	_, record := Kept(dst)
	return squashfs.PrepareLower(archive, upper, setAside, squashfs.UnpackOptions{Log: opts.Log, Record: record, Allow: func(bytes int64) error {
		if err := b.entry(ctx); err != nil {
			return err
		}
		return b.grow(ctx, bytes)
	}})
}
