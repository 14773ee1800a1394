package source

import (
	"context"
	"fmt"

	"buildenv/artifacts/squashfs"
)

// unpackSquashfs makes the directory dst, if the archive does not claim to hold
// more than it may.
func unpackSquashfs(ctx context.Context, src, dst string, opts Options) error {
	inodes, err := squashfs.Inodes(src)
	if err != nil {
		return err
	}
	if inodes > opts.MaxEntries {
		return fmt.Errorf("%w of %d entries: %d", ErrTooBig, opts.MaxEntries, inodes)
	}
	return squashfs.Unpack(ctx, src, dst, squashfs.UnpackOptions{Progress: opts.Progress, Log: opts.Log})
}
