package squashfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// UnpackOptions say how an archive is unpacked. The zero value means silence.
type UnpackOptions struct {
	Processors int // 0: all
	// Allow is asked before each entry, with the bytes of its content; an error
	// ends the unpacking. nil allows everything.
	Allow func(bytes int64) error
	// Progress is told now and then how many of the archive's bytes have been
	// read; nil for nobody. Calls do not overlap.
	Progress func(done, total int64)
	// Record is the name of a file that notes what the files looked like, for
	// packing them again; "" for none.
	Record string
	// Interrupt is called when unpacking has failed or is cancelled, so that reads
	// of an archive that is still arriving end; nil if they do not wait.
	Interrupt func()
	// Log is told which extended attributes this file system or process cannot
	// set, which is no reason to stop; nil for nobody.
	Log *slog.Logger
}

// Unpack makes the directory dir from an archive. dir must not exist or be
// empty, and not be a mount point; on error it is as it was. Owners, modes,
// times and devices that cannot be set as the archive has them are an error.
func Unpack(ctx context.Context, archive, dir string, opts UnpackOptions) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	var then stamp
	if opts.Record != "" {
		if then, err = stampArchive(f); err != nil {
			return err
		}
	}
	return unpackFrom(ctx, f, dir, opts, func() (stamp, bool, error) { return then, true, nil })
}

// UnpackFrom is Unpack for an archive that may be arriving still. When everything
// has been unpacked it calls whole, which waits for the rest of the archive and
// gives the file that it is in, for opts.Record to speak of; nil if there is none,
// and no record then. If whole fails, so does the unpacking.
func UnpackFrom(ctx context.Context, r io.ReaderAt, dir string, opts UnpackOptions, whole func() (*os.File, error)) error {
	return unpackFrom(ctx, r, dir, opts, func() (stamp, bool, error) {
		f, err := whole()
		if err != nil || f == nil || opts.Record == "" {
			return stamp{}, false, err
		}
		defer f.Close()
		s, err := stampArchive(f)
		return s, true, err
	})
}

// unpackFrom unpacks what r has; archive says at the end what its file looks like,
// if it is to be recorded.
func unpackFrom(ctx context.Context, r io.ReaderAt, dir string, opts UnpackOptions, archive func() (stamp, bool, error)) error {
	progress := &counter{}
	a, err := Open(countingReader{r, progress})
	if err != nil {
		return err
	}
	progress.total.Store(int64(a.sb.Size))
	defer watch(progress, opts.Progress)()
	var seen *identities
	if opts.Record != "" {
		seen = &identities{files: map[ref]stamp{}}
	}
	if err := a.unpack(ctx, dir, opts, seen, archive); err != nil {
		return err
	}
	progress.done.Store(int64(a.sb.Size)) // blocks that files share are read once
	return nil
}

// Unpack makes the directory dir of the archive; the function of that name says how.
func (a *Archive) Unpack(ctx context.Context, dir string, opts UnpackOptions) error {
	return a.unpack(ctx, dir, opts, nil, func() (stamp, bool, error) { return stamp{}, false, nil })
}

func (a *Archive) unpack(ctx context.Context, dir string, opts UnpackOptions, seen *identities, archive func() (stamp, bool, error)) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := mustBeEmpty(dir); err != nil {
		return err
	}
	tree, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".tmp-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tree) // renamed by then when all went well
	content := filepath.Join(tree, "root")
	if err := os.Mkdir(content, 0o700); err != nil {
		return err
	}
	if err := a.fill(ctx, content, opts, seen); err != nil {
		return fmt.Errorf("unpack squashfs: %w", err)
	}
	file, recorded, err := archive()
	if err != nil {
		return err
	}
	if seen != nil && recorded {
		seen.archive, seen.fragments = file, a.tails.lengths
		if err := seen.write(opts.Record); err != nil {
			return fmt.Errorf("record what the files look like: %w", err)
		}
	}
	// rename(2) replaces an empty directory, os.Rename refuses to.
	err = os.NewSyscallError("rename", unix.Rename(content, dir))
	if err != nil && seen != nil {
		os.Remove(opts.Record)
	}
	return err
}

func mustBeEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && len(entries) > 0 {
		return fmt.Errorf("%s: not an empty directory", dir)
	}
	return err
}

// unpacker makes a tree. One goroutine walks the archive and makes directories
// and all that has no content; files are made by the others.
type unpacker struct {
	archive *Archive
	opts    UnpackOptions
	ctx     context.Context
	cancel  context.CancelCauseFunc
	jobs    chan func(*scratch) error
	seen    map[ref]bool  // directories
	linked  map[ref]place // where files with more than one name have been made
	root    int           // descriptor of the new root
	// uid and gid are the owners that new files get by themselves: those that the
	// new root has. Directories get theirs when nothing is made in them any more.
	uid, gid uint32
	lost     lostXattrs

	identifying sync.Mutex  // protects the following
	identities  *identities // of the files; nil: nobody wants to know
}

// scratch is what a goroutine needs for blocks.
type scratch struct{ block, stored []byte }

// queuedJobs bounds the files, and so their directories, that are open.
const queuedJobs = 64

func (a *Archive) fill(ctx context.Context, dir string, opts UnpackOptions, seen *identities) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return os.NewSyscallError("stat", err)
	}
	if opts.Processors == 0 {
		opts.Processors = runtime.GOMAXPROCS(0)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	group := new(errgroup.Group)
	u := &unpacker{
		archive: a, opts: opts, ctx: ctx, cancel: cancel, jobs: make(chan func(*scratch) error, queuedJobs),
		seen: map[ref]bool{}, linked: map[ref]place{}, root: fd, uid: st.Uid, gid: st.Gid, identities: seen,
	}
	for range opts.Processors {
		group.Go(u.work)
	}
	group.Go(func() error {
		defer close(u.jobs)
		return u.failed(u.walk(dir))
	})
	if err = group.Wait(); err != nil {
		err = context.Cause(ctx) // the first; others may have come of the interruption
	}
	u.lost.report(opts.Log)
	if err == nil && seen != nil {
		if err = u.identifyLinked(); err == nil {
			seen.taken, err = fileClock(dir)
		}
	}
	return err
}

// identify notes what a file looks like. An inode that has been made twice, as
// two files, is not noted at all: it can be neither of them.
func (u *unpacker) identify(at ref, fd int) error {
	s, err := stampFile(fd)
	if err != nil {
		return err
	}
	u.identifying.Lock()
	defer u.identifying.Unlock()
	if _, twice := u.identities.files[at]; twice {
		s = stamp{}
	}
	u.identities.files[at] = s
	return nil
}

// identifyLinked notes what files with several names look like, which each new
// name has changed.
func (u *unpacker) identifyLinked() error {
	for at, first := range u.linked {
		dir, err := u.open(first.folder)
		if err != nil {
			return err
		}
		fd, err := unix.Openat(dir, first.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		unix.Close(dir)
		if err != nil {
			return os.NewSyscallError("open", err)
		}
		err = u.identify(at, fd)
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

// work does jobs until there are no more. After an error the remaining ones are
// still called, for they hold open files, but do nothing.
func (u *unpacker) work() error {
	size := u.archive.sb.BlockSize
	s := &scratch{make([]byte, size), make([]byte, size)}
	var first error
	for job := range u.jobs {
		if err := u.failed(job(s)); first == nil {
			first = err
		}
	}
	return first
}

// failed has everybody stop after an error, which it returns.
func (u *unpacker) failed(err error) error {
	if err != nil {
		u.cancel(err)
		if u.opts.Interrupt != nil {
			u.opts.Interrupt()
		}
	}
	return err
}

// special makes what has no content.
func (u *unpacker) special(f *folder, name string, i *Inode) (err error) {
	if i.format() == unix.S_IFLNK {
		err = os.NewSyscallError("symlink", unix.Symlinkat(i.Target, f.fd, name))
	} else {
		err = os.NewSyscallError("mknod", unix.Mknodat(f.fd, name, i.format()|0o600, int(decodeDevice(i.Device))))
	}
	if err != nil {
		return privilege(err)
	}
	return u.finishNamed(f, name, i)
}

// decodeDevice turns the kernel's form of a device number on disk
// (linux/kdev_t.h, new_decode_dev) into that of mknod(2).
func decodeDevice(d uint32) uint64 { return unix.Mkdev(d>>8&0xfff, d&0xff|d>>12&0xfff00) }

func encodeDevice(d uint64) uint32 {
	major, minor := unix.Major(d), unix.Minor(d)
	return minor&0xff | major<<8 | minor&^0xff<<12
}

func privilege(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w (devices and owners need root)", err)
	}
	return err
}
