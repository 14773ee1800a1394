package squashfs

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// feeder reads the files of a root, in the order of its names, and feeds their
// contents to a dataWriter. Files that are smaller than a block share fragments.
type feeder struct {
	w        *dataWriter
	folders  folders
	sizes    map[int64]int // how many files have a size
	settled  func(*node)   // told when a file turns out to have changed since it was scanned
	progress *counter
	packed   int64 // bytes of the files before this one

	reuse     *reuse // nil: there is no old archive
	kept      *job   // that copies the fragment taken over last; nil when it has been submitted
	taken     int64  // bytes of the files that have been taken over
	tails     []byte // of the fragment in the making
	scratch   []byte // for the file that is read
	making    uint32 // its index, if there are tails
	fragments uint32 // indexes that are given
	known     map[contentID]layout
}

// errChanged is returned by a file that changes while it is read.
var errChanged = errors.New("the file changes while it is packed")

// tries is how often a file is read that changes meanwhile.
const tries = 5

// feed reads all files below a directory.
func (f *feeder) feed(root *node) error {
	f.progress.total.Store(f.count(root))
	f.tails, f.scratch, f.known = f.w.buffer(), make([]byte, f.w.blockSize), map[contentID]layout{}
	defer f.folders.close()
	if err := f.directory(root); err != nil {
		return err
	}
	return errors.Join(f.copyKept(), f.flush())
}

// count takes note of the sizes of all files and returns their sum.
func (f *feeder) count(dir *node) (total int64) {
	for _, n := range dir.children {
		switch {
		case n.kind == typeDirectory:
			total += f.count(n)
		case n.kind == typeFile && n.same == nil:
			f.sizes[n.stamp.size]++
			total += n.stamp.size
		}
	}
	return total
}

func (f *feeder) directory(dir *node) error {
	for _, n := range dir.children {
		var err error
		switch {
		case n.kind == typeDirectory:
			err = f.directory(n)
		case n.kind == typeFile && n.same == nil:
			if err = f.file(n); err != nil {
				err = fmt.Errorf("%s: %w", n.path(), err)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// file reads one file until it stays the same meanwhile.
func (f *feeder) file(n *node) (err error) {
	defer func() {
		f.packed += n.stamp.size
		f.progress.done.Store(f.packed)
	}()
	for _, known := range []func(*node) (bool, error){f.empty, f.takeOver, f.tailOf} {
		if done, err := known(n); done || err != nil {
			return err
		}
	}
	for range tries {
		if err = f.readOnce(n); !errors.Is(err, errChanged) {
			return err
		}
	}
	return err
}

// empty is a file of which there is nothing to read.
func (f *feeder) empty(n *node) (bool, error) {
	if n.stamp.size > 0 {
		return false, nil
	}
	n.content = layout{fragment: noFragment}
	return true, nil
}

func (f *feeder) readOnce(n *node) error {
	file, err := openNode(&f.folders, n)
	if err != nil {
		return err
	}
	defer file.close()
	if err := f.settle(n, int(file)); err != nil {
		return err
	}
	if n.stamp.size < int64(f.w.blockSize) {
		return f.small(n, file)
	}
	return f.large(n, file)
}

// takeOver has a file's blocks copied from the old archive, if its content is
// known to be the same and its tail lies in a fragment that is taken over.
func (f *feeder) takeOver(n *node) (bool, error) {
	b := n.base
	if b == nil || !b.trusted && !(b.tail && len(b.file.blocks) == 0) {
		return false, nil
	}
	content := b.file
	if content.fragment != noFragment {
		index, kept, err := f.keptFragment(content.fragment)
		if !kept || err != nil {
			return false, err
		}
		content.fragment = index
	} else {
		content.offset = 0
	}
	f.taken += n.stamp.size
	return true, f.w.submit(&job{step: stepTakeOver, file: n, layout: content})
}

// keptFragment is the new index of a fragment that is taken over. It is copied
// when a file is met that has its tail in the next one: at the place where it
// would be if it had been made of these files.
func (f *feeder) keptFragment(index uint32) (as uint32, kept bool, err error) {
	k := f.reuse.fragments[index]
	if k == nil || !k.keep {
		return 0, false, nil
	}
	if !k.made {
		block, err := f.reuse.from.fragment(index)
		if err == nil {
			err = f.copyKept()
		}
		if err != nil {
			return 0, false, err
		}
		k.as, k.made = f.nextFragment(), true
		f.kept = &job{step: stepKeepFragment, index: k.as, base: block}
	}
	return k.as, true, nil
}

// copyKept has the fragment copied that is due.
func (f *feeder) copyKept() error {
	j := f.kept
	if f.kept = nil; j == nil {
		return nil
	}
	return f.w.submit(j)
}

// tailOf takes a small file's content from the old archive, if it is known to be
// the same but lies in a fragment that cannot be taken over as a whole. That is
// less work than to open the file.
func (f *feeder) tailOf(n *node) (bool, error) {
	b := n.base
	if b == nil || !b.trusted || !b.tail || len(b.file.blocks) > 0 {
		return false, nil
	}
	content, err := f.reuse.from.tail(b.Inode)
	if err != nil {
		return false, nil // the file itself can be read
	}
	return true, f.share(n, content)
}

// openFile is a descriptor of a regular file. An os.File would be offered to the
// poller first, which costs as much as to read a small file.
type openFile int

// openNode opens a regular file.
func openNode(f *folders, n *node) (openFile, error) {
	dir, err := f.open(n.parent)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Openat(dir, n.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	return openFile(fd), os.NewSyscallError("open", err)
}

func (f openFile) close() { unix.Close(int(f)) }

// settle takes note of what has changed about a file since it was scanned.
func (f *feeder) settle(n *node, fd int) error {
	now, err := stampFile(fd)
	if err != nil {
		return err
	}
	if now.dev != n.stamp.dev || now.ino != n.stamp.ino {
		return errors.New("the file was replaced while the root was being packed")
	}
	if now != n.stamp {
		n.stamp = now
		f.settled(n)
	}
	return nil
}

func stampFile(fd int) (stamp, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, &st); err != nil {
		return stamp{}, os.NewSyscallError("stat", err)
	}
	return stampOf(st), nil
}

// unchanged tells whether a file is still what it was before it was read.
func unchanged(n *node, file openFile) error {
	now, err := stampFile(int(file))
	if err == nil && now != n.stamp {
		err = errChanged
	}
	return err
}

// small puts a file into the fragment in the making.
func (f *feeder) small(n *node, file openFile) error {
	if done, err := f.empty(n); done {
		return err
	}
	content := f.scratch[:n.stamp.size]
	if err := readFull(file, content, 0); err != nil {
		return err
	}
	if err := unchanged(n, file); err != nil {
		return err
	}
	return f.share(n, content)
}

// share gives a small file its place in a fragment, which is that of another one
// if that has the same content.
func (f *feeder) share(n *node, content []byte) error {
	id := contentID{size: n.stamp.size}
	if f.sizes[n.stamp.size] > 1 {
		id.sum = sha256.Sum256(content)
		if known, ok := f.known[id]; ok {
			n.content = known
			return nil
		}
	}
	if err := f.add(n, content); err != nil {
		return err
	}
	if f.sizes[n.stamp.size] > 1 {
		f.known[id] = n.content
	}
	return nil
}

// add puts a tail behind the last one, into another fragment if this one is full.
func (f *feeder) add(n *node, content []byte) error {
	if len(f.tails)+len(content) > f.w.blockSize {
		if err := f.flush(); err != nil {
			return err
		}
	}
	if len(f.tails) == 0 {
		f.making = f.nextFragment()
	}
	n.content = layout{fragment: f.making, offset: uint32(len(f.tails))}
	f.tails = append(f.tails, content...)
	return nil
}

func (f *feeder) nextFragment() uint32 {
	f.fragments++
	return f.fragments - 1
}

// flush ends the fragment in the making.
func (f *feeder) flush() error {
	if len(f.tails) == 0 {
		return nil
	}
	err := f.w.submit(&job{step: stepTails, index: f.making, data: f.tails})
	f.tails = f.w.buffer()
	return err
}

// large feeds a file block by block. Blocks that lie in a hole are not read.
func (f *feeder) large(n *node, file openFile) error {
	hash := f.sizes[n.stamp.size] > 1
	old, stay := oldBlocks(n), f.w.stays.mayStay(n)
	data := int64(0) // where there may be data from
	for at := int64(0); at < n.stamp.size; at += int64(f.w.blockSize) {
		length := min(int64(f.w.blockSize), n.stamp.size-at)
		f.progress.done.Store(f.packed + at)
		if data <= at {
			data = nextData(file, at, n.stamp.size)
		}
		j := &job{step: stepBlock, file: n, hash: hash, stay: stay}
		if index := int(at / int64(f.w.blockSize)); index < len(old) {
			j.base = old[index]
		}
		if data < at+length {
			j.data = f.w.buffer()[:length]
			if err := readFull(file, j.data, at); err != nil {
				return errors.Join(err, f.drop(n))
			}
			data = 0
		} else if hash {
			j.sum = zeroSum(int(length))
		}
		if err := f.w.submit(j); err != nil {
			return err
		}
	}
	if err := unchanged(n, file); err != nil {
		return errors.Join(err, f.drop(n))
	}
	return f.w.submit(&job{step: stepEnd, file: n, hash: hash})
}

func (f *feeder) drop(n *node) error { return f.w.submit(&job{step: stepDrop, file: n}) }

func zeroSum(length int) [sha256.Size]byte { return sha256.Sum256(zeros[:length]) }

// nextData is where the next data of a file begins, its size if there is none
// (lseek(2), SEEK_DATA). A file system that knows no holes has data everywhere.
func nextData(file openFile, from, size int64) int64 {
	at, err := unix.Seek(int(file), from, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return size
	case err != nil:
		return from
	}
	return at
}

// readFull reads a part of a file that has just been found to be there.
func readFull(file openFile, p []byte, at int64) error {
	for len(p) > 0 {
		n, err := unix.Pread(int(file), p, at)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return os.NewSyscallError("read", err)
		case n == 0:
			return errChanged
		}
		p, at = p[n:], at+int64(n)
	}
	return nil
}
