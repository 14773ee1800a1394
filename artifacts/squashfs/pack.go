package squashfs

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"buildenv/artifacts"
	"buildenv/internal/fsx"
)

// Packer makes archives with mksquashfs.
type Packer struct {
	// Log is told what an archive leaves out.
	Log *slog.Logger
}

var _ artifacts.Packer = Packer{}

// memory bounds the tool's buffers. By itself it takes a quarter of the host's
// memory, although the container that it runs in may have less; more than this
// makes it no faster.
const memory = "256M"

// Pack archives the directory root as the file dst.
func (p Packer) Pack(ctx context.Context, root, dst string, opts artifacts.PackOptions) error {
	if err := p.pack(ctx, root, dst, opts); err != nil {
		return fmt.Errorf("pack %s: %w", root, err)
	}
	return nil
}

func (p Packer) pack(ctx context.Context, root, dst string, opts artifacts.PackOptions) error {
	options, err := toolOptions(opts)
	if err != nil {
		return err
	}
	if root, err = realPath(root); err != nil {
		return err
	}
	if dst, err = filepath.Abs(dst); err != nil { // mksquashfs runs in another directory
		return err
	}
	mounts, err := mountsBelow(root)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(dst); err == nil {
		return fmt.Errorf("%s: %w", dst, fs.ErrExist)
	}
	archive, err := fsx.Create(dst, 0o644)
	if err != nil {
		return err
	}
	defer archive.Discard()
	if err := p.run(ctx, root, archive, append(options, excludeOptions(mounts)...), opts.Progress); err != nil {
		return err
	}
	if err := p.warnLost(ctx, root, mounts); err != nil {
		return err
	}
	return archive.Commit()
}

// realPath is absolute and without links, as the kernel lists mounts; and of a
// root that is a link mksquashfs would pack the link.
func realPath(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

// run runs mksquashfs and watches the archive grow. The root is its working
// directory, so that no name of it is taken for an option.
func (p Packer) run(ctx context.Context, root string, archive *fsx.Pending, options []string, progress func(int64)) error {
	cmd := exec.Command("mksquashfs", ".", archive.Name(), "-noappend", "-no-progress", "-quiet",
		"-exit-on-error", "-xattrs", "-mem", memory)
	cmd.Args = append(cmd.Args, options...)
	cmd.Dir = root
	report := func() {
		if info, err := archive.Stat(); err == nil && progress != nil {
			progress(info.Size())
		}
	}
	stop := every(progressPace, report)
	err := runTool(ctx, cmd, nil, nil)
	stop()
	if err == nil {
		report()
	}
	return err
}

// CheckOptions tells beforehand whether Pack would refuse opts.
func CheckOptions(opts artifacts.PackOptions) error {
	_, err := toolOptions(opts)
	return err
}

// toolOptions translates opts.
func toolOptions(opts artifacts.PackOptions) ([]string, error) {
	options, err := compressionOptions(opts.Compression, opts.Level)
	if err != nil {
		return nil, err
	}
	if opts.Processors > 0 {
		options = append(options, "-processors", strconv.Itoa(opts.Processors))
	}
	return options, nil
}

// toolCompressions are the compressors' levels: the one taken by default and the
// highest, 0 for one without levels. Level 6 of gzip is the default, because
// the tool's own, 9, costs four times the processor time for half a per cent
// of size; level 3 of zstd for a similar reason.
var toolCompressions = map[string]struct{ level, highest int }{
	"gzip": {6, 9}, "zstd": {3, 22}, "xz": {}, "none": {},
}

func compressionOptions(name string, level int) ([]string, error) {
	name = cmp.Or(name, "gzip")
	c, known := toolCompressions[name]
	switch {
	case !known:
		return nil, fmt.Errorf("compression %q: want gzip, zstd, xz or none", name)
	case level != 0 && c.highest == 0:
		return nil, fmt.Errorf("compression %s: level %d: it has no levels", name, level)
	case level < 0 || level > c.highest:
		return nil, fmt.Errorf("compression %s: level %d: want 1 to %d", name, level, c.highest)
	case name == "none":
		return []string{"-noI", "-noD", "-noF", "-noX"}, nil
	case c.highest == 0:
		return []string{"-comp", name}, nil
	}
	return []string{"-comp", name, "-Xcompression-level", strconv.Itoa(cmp.Or(level, c.level))}, nil
}
