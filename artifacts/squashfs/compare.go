package squashfs

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"buildenv/artifacts"
)

// Compare tells what a directory root does not have as the archive opts.From has
// it: each such path once, in the order of names, a directory before what is in
// it. Contents are compared, unless opts.Record says that the file looks as it
// did. A time of modification counts if it is not a directory's: those change with
// what is in them. In which files names share an inode is not compared.
//
// The root may be hostile, and somebody may be at work in it: then what is found
// is true of some moment of each path. Memory does not grow with the root, but
// with its depth, with the names in one directory, and with the archive's
// directories.
func Compare(ctx context.Context, root string, opts artifacts.PackOptions, log *slog.Logger, visit func(artifacts.Change) error) error {
	if err := compare(ctx, root, opts, log, visit); err != nil {
		return fmt.Errorf("compare %s with its source: %w", root, err)
	}
	return nil
}

func compare(ctx context.Context, root string, opts artifacts.PackOptions, log *slog.Logger, visit func(artifacts.Change) error) error {
	old, err := openReuse(opts.From, log)
	if err != nil {
		return err
	}
	defer old.close()
	s, err := newSettings(artifacts.PackOptions{Epoch: opts.Epoch, Processors: opts.Processors})
	if err != nil {
		return err
	}
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	defer unix.Close(fd)
	above, err := openUpper(opts.Upper)
	if err != nil {
		return err
	}
	defer above.close()
	if err := old.checkOverlay(opts); err != nil {
		return err
	}
	old.believe(fd, opts)
	c := &comparison{
		from: old.from, identities: old.identities, layered: opts.Upper != "", overlay: old.overlay, upper: above, clamp: s.clamp,
		found: make(chan *finding, underWay), work: make(chan *finding, underWay),
		linked: map[linkedFile]*finding{}, seen: map[ref]bool{}, buffer: make([]byte, maxXattrValue),
	}
	if err := c.run(ctx, fd, cmp.Or(opts.Processors, runtime.GOMAXPROCS(0)), visit); err != nil {
		return err
	}
	return old.untouched()
}

// comparison compares a root with an archive. One goroutine walks through both,
// some compare contents, and one tells what has been found, in order.
type comparison struct {
	ctx        context.Context
	from       *Archive
	identities *identities // nil: nothing is believed
	layered    bool        // the root is an overlay
	overlay    bool        // and what is not in its upper layer is believed
	upper      upper       // of the directory that is compared
	clamp      int64       // latest time that will be packed, in seconds
	mount      uint64      // the root's

	found  chan *finding // in order
	work   chan *finding // whose contents are to be compared
	linked map[linkedFile]*finding
	seen   map[ref]bool // directories of the archive
	buffer []byte
}

// underWay bounds the files that are open.
const underWay = 64

func (c *comparison) run(ctx context.Context, root, processors int, visit func(artifacts.Change) error) error {
	group, ctx := errgroup.WithContext(ctx)
	c.ctx = ctx
	for range processors {
		group.Go(func() error {
			c.contents()
			return nil
		})
	}
	group.Go(func() error { return c.tell(visit) })
	group.Go(func() error {
		defer close(c.found)
		defer close(c.work)
		return c.tree(root)
	})
	return group.Wait()
}
