package squashfs

import (
	"fmt"

	"golang.org/x/sys/unix"

	"buildenv/artifacts"
)

// finding is what may become a change: that is known when done is closed.
type finding struct {
	artifacts.Change
	then    *Inode
	file    openFile // to be compared, if done is there
	other   *finding // that compares the same file under another name
	done    chan struct{}
	differs bool
	err     error
}

func newFinding(p spot, st unix.Statx_t, kind artifacts.ChangeKind) *finding {
	c := artifacts.Change{Kind: kind, Path: p.path, Type: typeName(uint32(st.Mode))}
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		c.Size = int64(st.Size)
	}
	return &finding{Change: c}
}

// typeNames are what a report calls the types.
var typeNames = [...]string{
	typeDirectory: "directory", typeFile: "file", typeSymlink: "symlink", typeBlock: "block",
	typeChar: "char", typeFIFO: "fifo", typeSocket: "socket",
}

func typeName(mode uint32) string { return typeNames[typeOf(mode)] }

// report hands a finding on. It is handed to be compared first: whoever waits
// for it to be compared then knows that it will be.
func (c *comparison) report(f *finding) error {
	if f.done != nil {
		select {
		case c.work <- f:
		case <-c.ctx.Done():
			f.file.close()
			return c.ctx.Err()
		}
	}
	select {
	case c.found <- f:
		return nil
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}

// tell waits for the findings and tells those that are changes.
func (c *comparison) tell(visit func(artifacts.Change) error) error {
	for f := range c.found {
		if err := f.wait(); err != nil {
			return fmt.Errorf("%q: %w", f.Path, err)
		}
		if f.Kind == artifacts.Changed && len(f.What) == 0 && len(f.Lost) == 0 {
			continue
		}
		if err := visit(f.Change); err != nil {
			return err
		}
	}
	return c.ctx.Err()
}

func (f *finding) wait() error {
	by := f
	if f.other != nil {
		by = f.other
	}
	if by.done != nil {
		<-by.done
	}
	if by.differs {
		f.What = append([]string{"content"}, f.What...)
	}
	return by.err
}
