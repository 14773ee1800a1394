package source

import (
	"context"
	"errors"
	"os"

	"buildenv/artifacts/squashfs"
)

// unpackSquashfs makes the directory temporary, which will be dst, within the limits of opts.
func unpackSquashfs(ctx context.Context, src, dst, temporary string, opts Options) error {
	archive, err := keep(src, dst, opts)
	if err != nil {
		return err
	}
	record := ""
	if opts.Keep == KeepAuto || opts.Keep == KeepAlways {
		_, record = Kept(dst)
	}
	b := &budget{maxBytes: opts.MaxBytes, maxEntries: opts.MaxEntries, progress: func(int64) {}}
	err = squashfs.Unpack(ctx, archive, temporary, squashfs.UnpackOptions{
		Allow: func(bytes int64) error {
			if err := b.entry(ctx); err != nil {
				return err
			}
			return b.grow(ctx, bytes)
		},
		Progress: opts.Progress,
		Record:   record,
		Log:      opts.Log,
	})
	if err != nil && archive != src {
		err = errors.Join(err, os.Remove(archive))
	}
	return err
}
