package squashfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"buildenv/artifacts"
)

// reuse finds out what a new archive can take over from the one that its root was
// unpacked from: blocks and fragments as they are, compressed.
//
// A file that looks as it did when it was unpacked is the same (identities). Any
// other file is compared with what the old archive has under its path, block by
// block, so that nothing is taken over on a guess. A fragment is taken over if
// all of its bytes belong to such files; otherwise tails of files that have been
// deleted or changed would come along.
type reuse struct {
	from       *Archive
	file       *os.File
	opened     stamp       // of file
	identities *identities // nil: nothing is believed, all is compared
	overlay    bool        // what is not in the upper layer is believed
	log        *slog.Logger

	trusted   []*node                    // files that look as they did
	doubtful  []*node                    // files with a tail in the old archive that is to be compared
	fragments map[uint32]*fragmentOfBase // by index in the old archive
	taken     atomic.Int64               // bytes of the old archive that are in the new one

	ahead sync.WaitGroup // goroutines that read ahead
	quit  chan struct{}  // ends them
}

// counterpart is what the old archive has under a file's path.
type counterpart struct {
	*Inode
	trusted bool // the content is the same, by its identity
	tail    bool // the tail is the same
}

// fragmentOfBase is a fragment of the old archive.
type fragmentOfBase struct {
	live []span // tails of files that are the same
	keep bool
	made bool   // as the fragment index of the new archive
	as   uint32 // its index
}

// span is a part of a fragment.
type span struct{ from, to uint32 }

// openReuse opens the old archive.
func openReuse(name string, log *slog.Logger) (*reuse, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	a, err := Open(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	opened, err := stampFile(int(f.Fd()))
	if err != nil {
		f.Close()
		return nil, err
	}
	return &reuse{from: a, file: f, opened: opened, log: log, fragments: map[uint32]*fragmentOfBase{}}, nil
}

// checkOverlay fails if the root is an overlay on this archive, and that was
// written to: what such a root shows is nobody's content.
func (r *reuse) checkOverlay(opts artifacts.PackOptions) error {
	if opts.Upper == "" || opts.Record == "" {
		return nil
	}
	d, err := readIdentities(opts.Record)
	if err != nil || d.archive.ino != r.opened.ino { // an archive that merely is compared with
		return nil
	}
	return d.intact(r.file.Name(), r.opened)
}

// believe reads the record of a root, if there is one that counts.
func (r *reuse) believe(root int, opts artifacts.PackOptions) {
	if opts.Record == "" || opts.Verify {
		return
	}
	d, err := readIdentities(opts.Record)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	reason := ""
	switch {
	case err != nil:
		reason = err.Error()
	case opts.Upper != "":
		reason = d.doubtArchive(r.file)
	default:
		reason = d.doubt(root, r.file)
	}
	if reason != "" {
		r.log.Info("all files are read to find those that are unchanged", "reason", reason)
		return
	}
	if r.overlay = opts.Upper != ""; !r.overlay {
		r.identities = d
	}
}

// unchanged tells whether a file is certain to be what the archive has.
func (r *reuse) unchanged(n *node, i *Inode) bool {
	if r.overlay {
		return n.lower && n.stamp.size == int64(i.Size)
	}
	return r.identities != nil && r.identities.unchanged(i.ref, n.stamp)
}

// adopt fills in compression and block size where the options leave them open:
// those of the old archive, if we can write them.
func (r *reuse) adopt(opts *artifacts.PackOptions) {
	info := r.from.Info()
	if _, _, err := compressionByName(info.Compression, 0); opts.Compression == "" && err == nil {
		opts.Compression = info.Compression
	}
	if opts.BlockSize == 0 {
		opts.BlockSize = info.BlockSize
	}
}

// fits tells whether an archive that is made so can take over anything.
func (r *reuse) fits(s *settings) bool {
	info, name := r.from.Info(), s.compression.name
	if s.raw {
		name = none
	}
	if info.Compression == name && info.BlockSize == s.blockSize {
		return true
	}
	r.log.Info("all files are packed anew: another compression or block size",
		"was", info.Compression, "block_size", info.BlockSize, "is", name, "new_block_size", s.blockSize)
	return false
}

// untouched fails if the old archive has been written to while it was used.
func (r *reuse) untouched() error {
	now, err := stampFile(int(r.file.Fd()))
	if err == nil && (now.size != r.opened.size || now.mtime != r.opened.mtime) {
		err = fmt.Errorf("%s: it was changed while the new archive was made of it", r.file.Name())
	}
	return err
}

// readAhead has the tables read that plan will want, while the root is scanned.
func (r *reuse) readAhead() {
	r.quit = make(chan struct{})
	for _, table := range []*metadata{r.from.inodes, r.from.directories} {
		r.ahead.Go(func() { table.readAhead(r.quit) })
	}
}

func (r *reuse) close() {
	if r.quit != nil {
		close(r.quit)
	}
	r.ahead.Wait()
	r.file.Close()
}

// plan decides about every file of a root.
func (r *reuse) plan(ctx context.Context, root *node, rootFD, processors int) error {
	i, err := r.from.inode(ref(r.from.sb.Root))
	if err == nil {
		err = r.match(root, i)
	}
	if err == nil {
		err = r.compare(ctx, rootFD, processors)
	}
	if err != nil {
		return err
	}
	return r.chooseFragments(ctx, processors)
}

// again makes ready for a second attempt.
func (r *reuse) again() {
	r.taken.Store(0)
	for _, f := range r.fragments {
		f.made = false
	}
}

// forget undoes what plan has decided.
func forget(dir *node) {
	for _, n := range dir.children {
		n.base = nil
		forget(n)
	}
}

// match finds the counterparts of the files in a directory.
func (r *reuse) match(dir *node, i *Inode) error {
	return r.from.eachEntry(i, func(e Entry) error {
		at, ok := slices.BinarySearchFunc(dir.children, e.Name, func(n *node, name string) int { return strings.Compare(n.name, name) })
		if !ok {
			return nil
		}
		n := dir.children[at]
		if e.kind != n.kind || n.kind != typeDirectory && n.kind != typeFile {
			return nil
		}
		i, err := r.from.inode(e.ref)
		switch {
		case err != nil:
			return err
		case n.kind == typeDirectory && i.isDirectory():
			return r.match(n, i)
		case n.kind == typeFile && i.isFile():
			r.pair(n.original(), i)
		}
		return nil
	})
}

// pair notes a file's counterpart. A small one is of no use unless it has the
// same size; of a large one blocks may be the same.
func (r *reuse) pair(n *node, i *Inode) {
	block := int64(r.from.sb.BlockSize)
	if n.base != nil || i.Size == 0 || n.stamp.size != int64(i.Size) && (n.stamp.size < block || int64(i.Size) < block) {
		return
	}
	n.base = &counterpart{Inode: i}
	switch {
	case r.unchanged(n, i):
		n.base.trusted, n.base.tail = true, i.file.fragment != noFragment
		r.trusted = append(r.trusted, n)
	case i.file.fragment != noFragment && len(i.file.blocks) == 0:
		r.doubtful = append(r.doubtful, n)
	}
}

// compare reads the small files about which there is doubt.
func (r *reuse) compare(ctx context.Context, root, processors int) error {
	group, ctx := errgroup.WithContext(ctx)
	size := max(1, (len(r.doubtful)+processors-1)/processors)
	for part := range slices.Chunk(r.doubtful, size) {
		group.Go(func() error {
			c := comparer{from: r.from, folders: folders{root: root}, buffer: make([]byte, r.from.sb.BlockSize)}
			defer c.folders.close()
			for _, n := range part {
				if err := ctx.Err(); err != nil {
					return err
				}
				n.base.tail = c.same(n)
			}
			return nil
		})
	}
	return group.Wait()
}

// comparer compares small files with their counterparts. It serves one goroutine.
type comparer struct {
	from    *Archive
	folders folders
	buffer  []byte
}

// same tells whether a small file's content is that of its counterpart. What
// cannot be read is not the same; packing it will tell why.
func (c *comparer) same(n *node) bool {
	then, err := c.from.tail(n.base.Inode)
	if err != nil {
		return false
	}
	file, err := openNode(&c.folders, n)
	if err != nil {
		return false
	}
	defer file.close()
	now := c.buffer[:len(then)]
	if before := unchanged(n, file); before != nil || readFull(file, now, 0) != nil {
		return false
	}
	return slices.Equal(now, then) && unchanged(n, file) == nil
}

// chooseFragments finds those whose bytes are all alive.
func (r *reuse) chooseFragments(ctx context.Context, processors int) error {
	for _, n := range append(r.trusted, r.doubtful...) {
		i := n.base.Inode
		if !n.base.tail {
			continue
		}
		f := r.fragments[i.file.fragment]
		if f == nil {
			f = &fragmentOfBase{}
			r.fragments[i.file.fragment] = f
		}
		f.live = append(f.live, span{i.file.offset, i.file.offset + uint32(i.Size%uint64(r.from.sb.BlockSize))})
	}
	if r.overlay {
		if err := r.measure(ctx, processors); err != nil {
			return err
		}
	}
	lengths := r.from.tails.lengths
	if r.identities != nil {
		lengths = r.identities.fragments
	}
	for index, f := range r.fragments {
		f.keep, f.live = covers(f.live, lengths[index]), nil
	}
	return nil
}

// measure finds out how long the fragments are uncompressed of which something is
// alive, which only uncompressing tells.
func (r *reuse) measure(ctx context.Context, processors int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(processors)
	for index := range r.fragments {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			_, err := r.from.tails.get(index)
			return err
		})
	}
	return group.Wait()
}

// covers tells whether spans leave nothing out of a length.
func covers(spans []span, length uint32) bool {
	slices.SortFunc(spans, func(a, b span) int { return int(int64(a.from) - int64(b.from)) })
	end := uint32(0)
	for _, s := range spans {
		if s.from > end {
			return false
		}
		end = max(end, s.to)
	}
	return length > 0 && end == length
}
