package source

import (
	"context"

	"buildenv/artifacts/squashfs"
)

// unpackSquashfs makes the directory dst, within the limits of opts.
func unpackSquashfs(ctx context.Context, src, dst string, opts Options) error {
	b := &budget{maxBytes: opts.MaxBytes, maxEntries: opts.MaxEntries, progress: func(int64) {}}
	return squashfs.Unpack(ctx, src, dst, squashfs.UnpackOptions{
		Allow: func(bytes int64) error {
			if err := b.entry(ctx); err != nil {
				return err
			}
			return b.grow(ctx, bytes)
		},
		Progress: opts.Progress,
		Log:      opts.Log,
	})
}
