package squashfs

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"runtime"

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
	if errors.Is(err, ErrFormat) {
		p.Log.Warn("all files are packed anew: the source archive cannot be read", "error", err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	old.adopt(opts)
	return old, nil
}

// settings are options that have been checked.
type settings struct {
	compression compression
	level       int
	raw         bool
	blockSize   int
	processors  int
	created     *uint32 // seconds since 1970, nil for the time of the newest file
	clamp       int64
	exclude     []string
}

// CheckOptions tells beforehand whether Pack would refuse opts.
func CheckOptions(opts artifacts.PackOptions) error {
	_, err := newSettings(opts)
	return err
}

func newSettings(opts artifacts.PackOptions) (s *settings, err error) {
	s = &settings{raw: opts.Compression == none, clamp: math.MaxInt64}
	if s.compression, s.level, err = compressionByName(opts.Compression, opts.Level); err != nil {
		return nil, err
	}
	s.blockSize = cmp.Or(opts.BlockSize, defaultBlockSize)
	if s.blockSize < minBlockSize || s.blockSize > maxBlockSize || bits.OnesCount(uint(s.blockSize)) != 1 {
		return nil, fmt.Errorf("block size %d: want a power of two from %d to %d", s.blockSize, minBlockSize, maxBlockSize)
	}
	s.processors = opts.Processors
	if s.processors <= 0 {
		s.processors = runtime.GOMAXPROCS(0)
	}
	if err := s.setTimes(opts); err != nil {
		return nil, err
	}
	for _, path := range opts.Exclude {
		s.exclude = append(s.exclude, filepath.Clean("./"+path))
	}
	return s, nil
}

func (s *settings) setTimes(opts artifacts.PackOptions) error {
	for _, t := range []*int64{opts.Epoch, opts.Created} {
		if t == nil {
			continue
		}
		if *t < 0 || *t > math.MaxUint32 {
			return fmt.Errorf("time %d: squashfs knows the seconds from 0 to %d", *t, uint32(math.MaxUint32))
		}
		created := uint32(*t)
		s.created = &created
	}
	if opts.Epoch != nil {
		s.clamp = *opts.Epoch
	}
	return nil
}

func (s *settings) newCompressor() (compressor, error) {
	if s.raw {
		return nil, nil
	}
	return s.compression.compressor(s.level, s.blockSize)
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
	w := &writer{settings: s, out: archive.File, log: p.Log, root: fd, path: root}
	if old != nil && old.fits(s) {
		old.believe(fd, opts)
		w.reuse = old
	}
	stop := watch(&w.progress, opts.Progress)
	err = w.write(ctx)
	stop()
	if err != nil {
		return err
	}
	return archive.Commit()
}

// writer makes one archive.
type writer struct {
	*settings
	out  *os.File
	log  *slog.Logger
	root int    // descriptor
	path string // of the root, for messages

	progress counter
	reuse    *reuse // nil: nothing is taken over
	lost     int    // attributes that cannot be kept
	sb       superblock
	xattrs   xattrSets
}

// warnLimit is how many files are named one by one that lose an attribute.
const warnLimit = 20

func (w *writer) warn(message, path string, args ...any) {
	if len(args) > 0 {
		if w.lost++; w.lost > warnLimit {
			return
		}
	}
	w.log.Warn(message, append([]any{"file", filepath.Join(w.path, path)}, args...)...)
}

func (w *writer) write(ctx context.Context) error {
	sc := &scan{ctx: ctx, clamp: w.clamp, exclude: w.exclude, log: w.warn}
	root, err := sc.tree(w.root)
	if err != nil {
		return err
	}
	if w.lost > warnLimit {
		w.log.Warn("not packed: more attributes that squashfs cannot hold", "count", w.lost-warnLimit)
	}
	w.xattrs = sc.xattrs
	options, err := w.options()
	if err != nil {
		return err
	}
	data := newDataWriter(ctx, w.out, w.settings, superblockSize+uint64(len(options)))
	f := &feeder{w: data, progress: &w.progress, folders: folders{root: w.root}, sizes: map[int64]int{}, settled: func(n *node) {
		n.mtime = uint32(max(0, min(n.stamp.mtime.Sec, w.clamp, math.MaxUint32)))
		sc.latest = max(sc.latest, n.mtime)
	}}
	if err := w.plan(ctx, root); err != nil {
		return err
	}
	f.reuse, data.from = w.reuse, w.reuse
	if err := data.run(w.settings, func() error { return f.feed(root) }); err != nil {
		return err
	}
	if w.reuse != nil {
		w.log.Info("unchanged content was taken over", "files_bytes", f.taken, "archive_bytes", w.reuse.taken.Load())
	}
	if w.created == nil {
		w.created = &sc.latest
	}
	if err := w.tables(root, data); err != nil {
		return err
	}
	return w.finish(options)
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
		w.reuse = nil
		forget(root)
		return nil
	}
	return err
}

// options are the compressor's, as the block of metadata that they are stored as.
func (w *writer) options() ([]byte, error) {
	if w.raw || w.compression.options == nil {
		return nil, nil
	}
	options := w.compression.options(w.level)
	if options == nil {
		return nil, nil
	}
	m := metaWriter{}
	err := m.write(options)
	if err == nil {
		err = m.flush()
	}
	return m.out, err
}

// tables writes everything behind the data.
func (w *writer) tables(root *node, data *dataWriter) error {
	c, err := w.newCompressor()
	if err != nil {
		return err
	}
	count, err := number(root)
	if err != nil {
		return err
	}
	t := &treeWriter{inodes: metaWriter{c: c}, listings: metaWriter{c: c}, ids: map[uint32]uint16{}, refs: make([]ref, count)}
	if err := t.directory(root, count+1); err != nil {
		return err
	}
	if err := t.inodes.flush(); err != nil {
		return err
	}
	if err := t.listings.flush(); err != nil {
		return err
	}
	w.sb = superblock{
		Inodes: count, MkfsTime: *w.created, BlockSize: uint32(w.blockSize), BlockLog: uint16(bits.TrailingZeros(uint(w.blockSize))),
		Fragments: uint32(len(data.fragments)), Compression: w.compression.id, IDs: uint16(len(t.owners)), Major: 4,
		Flags: flagDuplicates | flagExportable, Root: uint64(root.ref), Size: data.position, XattrTable: noTable,
	}
	copy(w.sb.Magic[:], magic)
	if w.raw {
		w.sb.Flags |= flagRaw
	}
	if w.sb.InodeTable, err = w.append(t.inodes.out); err != nil {
		return err
	}
	if w.sb.DirectoryTable, err = w.append(t.listings.out); err != nil {
		return err
	}
	if w.sb.FragmentTable, err = w.appendTable(c, encodeFragments(data.fragments), nil); err != nil {
		return err
	}
	if w.sb.ExportTable, err = w.appendTable(c, encode(t.refs), nil); err != nil {
		return err
	}
	if w.sb.IDTable, err = w.appendTable(c, encode(t.owners), nil); err != nil {
		return err
	}
	return w.xattrTables(c)
}

func encode(list any) []byte {
	b, _ := binary.Append(nil, binary.LittleEndian, list) // of fixed size
	return b
}

func encodeFragments(list []dataBlock) []byte {
	var b []byte
	for _, f := range list {
		b = binary.LittleEndian.AppendUint64(b, f.start)
		b = binary.LittleEndian.AppendUint32(b, f.size)
		b = binary.LittleEndian.AppendUint32(b, 0)
	}
	return b
}

// append writes a table at the end and returns where it begins.
func (w *writer) append(table []byte) (uint64, error) {
	start := w.sb.Size
	_, err := w.out.WriteAt(table, int64(start))
	w.sb.Size += uint64(len(table))
	return start, err
}

// appendTable writes a table that is found by its list, with head before that.
func (w *writer) appendTable(c compressor, data, head []byte) (uint64, error) {
	table, list, err := lookupTable(c, data, w.sb.Size, head)
	if err != nil {
		return 0, err
	}
	_, err = w.append(table)
	return list, err
}

// xattrTables writes the attributes, then the table of their sets.
func (w *writer) xattrTables(c compressor) error {
	if len(w.xattrs.encoded) == 0 {
		return nil
	}
	values := metaWriter{c: c}
	var sets []byte
	for i, encoded := range w.xattrs.encoded {
		block, offset := values.at()
		sets = append(sets, encode(xattrSet{newRef(block, offset), w.xattrs.counts[i], uint32(len(encoded))})...)
		if err := values.write([]byte(encoded)); err != nil {
			return err
		}
	}
	if err := values.flush(); err != nil {
		return err
	}
	start, err := w.append(values.out)
	if err != nil {
		return err
	}
	head := binary.LittleEndian.AppendUint64(nil, start)
	head = binary.LittleEndian.AppendUint64(head, uint64(len(w.xattrs.encoded))) // and an unused word
	w.sb.XattrTable, err = w.appendTable(c, sets, head)
	return err
}

// finish pads the archive and writes its head, without which it is none.
func (w *writer) finish(options []byte) error {
	if len(options) > 0 {
		w.sb.Flags |= flagOptions
	}
	padded := (w.sb.Size + paddedTo - 1) / paddedTo * paddedTo
	if err := w.out.Truncate(int64(padded)); err != nil {
		return err
	}
	_, err := w.out.WriteAt(append(w.sb.encode(), options...), 0)
	return err
}
