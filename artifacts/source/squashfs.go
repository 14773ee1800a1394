package source

import (
	"context"
	"io"
	"os"

	"buildenv/artifacts/squashfs"
)

// unpackSquashfs makes the directory temporary, which will be dst, within the limits of opts.
func unpackSquashfs(ctx context.Context, src, dst, temporary string, opts Options) error {
	archive, err := keep(src, dst, opts)
	if err != nil {
		return err
	}
	return squashfs.Unpack(ctx, archive, temporary, opts.squashfs(ctx, dst))
}

// unpackArriving does the same while the archive arrives, and keeps it then.
func unpackArriving(ctx context.Context, d arriving, dst, temporary string, opts Options) error {
	options := opts.squashfs(ctx, dst)
	options.Interrupt = d.Abort
	return squashfs.UnpackFrom(ctx, d, temporary, options, func() (*os.File, error) {
		if err := d.Wait(); err != nil {
			return nil, err
		}
		return keepFetched(d, dst, opts)
	})
}

// arriving is a file that can be read while it arrives.
type arriving interface {
	io.ReaderAt
	Wait() error            // for all of it
	Done() (int64, int64)   // bytes, and of how many
	Keep(name string) error // when it has arrived
	Abort()                 // it is of no use
}

// squashfs are the options for an archive that dst is made of.
func (o Options) squashfs(ctx context.Context, dst string) squashfs.UnpackOptions {
	record := ""
	if o.keeps() {
		_, record = Kept(dst)
	}
	b := &budget{maxBytes: o.MaxBytes, maxEntries: o.MaxEntries, progress: func(int64) {}}
	return squashfs.UnpackOptions{
		Allow: func(bytes int64) error {
			if err := b.entry(ctx); err != nil {
				return err
			}
			return b.grow(ctx, bytes)
		},
		Progress: o.Progress,
		Record:   record,
		Log:      o.Log,
	}
}
