package squashfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"buildenv/artifacts"
	"buildenv/internal/fsx"
)

// Packer makes archives.
type Packer struct {
	// Log is told what an archive leaves out.
	Log *slog.Logger
}

var _ artifacts.Packer = Packer{}

// Pack archives the directory root as the file dst.
func (p Packer) Pack(ctx context.Context, root, dst string, opts artifacts.PackOptions) error {
	if err := p.pack(ctx, root, dst, opts); err != nil {
		return fmt.Errorf("pack %s: %w", root, err)
	}
	return nil
}

// openOld opens the archive that the root was unpacked from, nil for none.
func (p Packer) openOld(opts *artifacts.PackOptions) (*reuse, error) {
	if opts.From == "" {
		return nil, nil
	}
	old, err := openReuse(opts.From, p.Log)
	if errors.Is(err, ErrFormat) && opts.Upper == "" { // an overlay on it would be damaged, too
		p.Log.Warn("all files are packed anew: the source archive cannot be read", "error", err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	old.adopt(opts)
	return old, nil
}

func (p Packer) pack(ctx context.Context, root, dst string, opts artifacts.PackOptions) error {
	old, err := p.openOld(&opts)
	if err != nil {
		return err
	}
	if old != nil {
		defer old.close()
	}
	s, err := newSettings(opts)
	if err != nil {
		return err
	}
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	defer unix.Close(fd)
	if _, err := os.Lstat(dst); err == nil {
		return fmt.Errorf("%s: %w", dst, fs.ErrExist)
	}
	archive, err := fsx.Create(dst, 0o644)
	if err != nil {
		return err
	}
	defer archive.Discard()
	w := &writer{settings: s, out: archive.File, log: p.Log, root: fd, path: root, overlay: opts.Upper != ""}
	if w.upper, err = openUpper(opts.Upper); err != nil {
		return err
	}
	defer w.upper.close()
	if old != nil {
		if err := old.checkOverlay(opts); err != nil {
			return err
		}
	}
	if old != nil && old.fits(s) {
		old.readAhead()
		old.believe(fd, opts)
		w.reuse = old
	}
	if s.append {
		if err := w.stay(); err != nil {
			return err
		}
	}
	stop := watch(&w.progress, opts.Progress)
	err = w.write(ctx)
	stop()
	if err != nil {
		return err
	}
	if err := archive.Commit(); err != nil {
		return err
	}
	if opts.Unchanged != nil {
		opts.Unchanged(w.unchanged)
	}
	return nil
}

// writer makes one archive.
type writer struct {
	*settings
	out     *os.File
	log     *slog.Logger
	root    int    // descriptor
	overlay bool   // that is what the root is
	upper   upper  // and this its upper layer
	path    string // of the root, for messages

	progress counter
	reuse    *reuse // nil: nothing is taken over
	stays    *stays // nil: what is taken over is moved
	// unchanged is what the old archive has at the same place.
	unchanged []artifacts.Range
	named     int // bytes of names in the log of what loses attributes
	unnamed   int // how many there was no room for
	sb        superblock
	head      []byte // what follows the superblock: the compressor's options
	xattrs    xattrSets
}

// warnLimit bounds what is logged of files that lose attributes, in bytes of the
// names of files and attributes: a hostile root has many long ones. It is what
// 10,000 files of an ordinary root need; a report of changes names them all.
const warnLimit = 1 << 20

func (w *writer) warn(message, path string, args ...any) {
	if message == lostMessage {
		if w.named += len(path) + len(fmt.Sprint(args...)); w.named > warnLimit {
			w.unnamed++
			return
		}
	}
	w.log.Warn(message, append([]any{"file", filepath.Join(w.path, path)}, args...)...)
}

func (w *writer) write(ctx context.Context) error {
	sc := &scan{ctx: ctx, overlay: w.overlay, upper: w.upper, clamp: w.clamp, exclude: w.exclude, log: w.warn}
	root, err := sc.tree(w.root)
	if err != nil {
		return err
	}
	if w.unnamed > 0 {
		w.log.Warn("not packed: attributes of more files, too many to be named here; the report of changes names them", "files", w.unnamed)
	}
	w.xattrs = sc.xattrs
	if err := w.plan(ctx, root); err != nil {
		return err
	}
	w.foresee(root)
	err = w.contents(ctx, root, sc)
	if errors.Is(err, errTooEmpty) {
		if err = w.compact(); err == nil {
			err = w.contents(ctx, root, sc)
		}
	}
	if err != nil {
		return err
	}
	return w.finish()
}

// contents writes the contents of all files, and the tables.
func (w *writer) contents(ctx context.Context, root *node, sc *scan) (err error) {
	if w.head, err = w.options(); err != nil {
		return err
	}
	data := newDataWriter(ctx, w.out, w.settings, superblockSize+uint64(len(w.head)))
	if data.stays = w.stays; w.stays != nil {
		data.position = w.stays.to
	}
	f := &feeder{w: data, progress: &w.progress, folders: folders{root: w.root}, sizes: map[int64]int{}, settled: func(n *node) {
		n.mtime = uint32(max(0, min(n.stamp.mtime.Sec, w.clamp, math.MaxUint32)))
		sc.latest = max(sc.latest, n.mtime)
	}}
	f.reuse, data.from = w.reuse, w.reuse
	tables := func() error {
		if w.created == nil {
			w.created = &sc.latest
		}
		if err := w.judge(data.position); err != nil {
			return err
		}
		return w.tables(root, data)
	}
	if err := data.run(w.settings, func() error { return f.feed(root) }, tables); err != nil || w.reuse == nil {
		return err
	}
	w.log.Info("unchanged content was taken over", "files_bytes", f.taken, "archive_bytes", w.reuse.taken.Load())
	return w.reuse.untouched()
}

// plan finds out what can be taken over. A source that is damaged is of no use,
// which is no reason to fail.
func (w *writer) plan(ctx context.Context, root *node) error {
	if w.reuse == nil {
		return nil
	}
	err := w.reuse.plan(ctx, root, w.root, w.processors)
	if errors.Is(err, ErrFormat) {
		w.log.Warn("all files are packed anew: the source archive cannot be read", "error", err)
		w.reuse, w.stays = nil, nil
		forget(root)
		return nil
	}
	return err
}
