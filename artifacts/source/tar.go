package source

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"buildenv/artifacts/rootfs"
)

// Names of PAX records, as star(1) introduced them and GNU tar writes them.
const (
	xattrRecord = "SCHILY.xattr."
	aclRecord   = "SCHILY.acl."
)

// ErrBadEntry is returned for an archive entry that no honest archive has.
var ErrBadEntry = errors.New("bad archive entry")

// unpackTar reads a tar archive into the tree: ustar, PAX and GNU headers. What
// follows the archive's end is not read. An archive without its end is refused:
// GNU tar would accept one that was cut between two entries.
func (t *tree) unpackTar(ctx context.Context, content io.Reader) error {
	counted := &zeroTail{r: cancellable{ctx, content}}
	archive := tar.NewReader(counted)
	for entries := 0; ; entries++ {
		header, err := archive.Next()
		switch {
		case errors.Is(err, io.EOF) && counted.zeros < tarBlock:
			return fmt.Errorf("archive is truncated: %w", io.ErrUnexpectedEOF)
		case errors.Is(err, io.EOF) && entries == 0:
			return fmt.Errorf("%w: no entry in it", ErrUnknownFormat)
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, tar.ErrHeader) && entries == 0:
			return ErrUnknownFormat
		case errors.Is(err, io.ErrUnexpectedEOF) && entries == 0:
			return fmt.Errorf("%w: it ends before the first entry does", ErrUnknownFormat)
		case err != nil:
			return fmt.Errorf("entry %d: %w", entries+1, err)
		}
		if err := t.budget.entry(ctx); err != nil {
			return err
		}
		if err := t.tarEntry(ctx, header, archive); err != nil {
			return fmt.Errorf("entry %q: %w", header.Name, err)
		}
	}
}

func (t *tree) tarEntry(ctx context.Context, header *tar.Header, content io.Reader) error {
	if header.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := entryName(header.Name)
	if err != nil {
		return err
	}
	if name == "." && header.Typeflag != tar.TypeDir {
		return fmt.Errorf("%w: the root itself must be a directory", ErrBadEntry)
	}
	meta, err := t.tarMeta(header)
	if err != nil {
		return err
	}
	switch header.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return t.tarFile(ctx, name, content, meta)
	case tar.TypeDir:
		return t.directory(name, meta)
	case tar.TypeSymlink:
		return t.symlink(name, header.Linkname, meta)
	case tar.TypeLink:
		old, err := entryName(header.Linkname)
		if err != nil {
			return fmt.Errorf("hard link to %q: %w", header.Linkname, err)
		}
		return t.link(name, old)
	case tar.TypeChar, tar.TypeBlock:
		return t.tarDevice(name, header, meta)
	case tar.TypeFifo:
		return t.node(name, unix.S_IFIFO, 0, meta)
	}
	t.log.Warn("archive entry of an unknown type is left out", "name", name, "type", string(header.Typeflag))
	return nil
}

func (t *tree) tarFile(ctx context.Context, name string, content io.Reader, meta rootfs.Meta) error {
	f, err := t.file(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := t.writeSparse(ctx, f, content); err != nil {
		return err
	}
	if err := meta.Apply(f, t.warn(name)); err != nil {
		return err
	}
	return f.Close()
}

func (t *tree) tarDevice(name string, header *tar.Header, meta rootfs.Meta) error {
	for _, number := range []int64{header.Devmajor, header.Devminor} {
		if number < 0 || number > math.MaxUint32 {
			return fmt.Errorf("%w: device %d:%d", ErrBadEntry, header.Devmajor, header.Devminor)
		}
	}
	kind := uint32(unix.S_IFCHR)
	if header.Typeflag == tar.TypeBlock {
		kind = unix.S_IFBLK
	}
	return t.node(name, kind, unix.Mkdev(uint32(header.Devmajor), uint32(header.Devminor)), meta)
}

// entryName is a name's components from the root, "." for the root itself. An
// absolute name counts from the root; one with ".." is refused, as it has no
// honest use and means different things to different tools.
func entryName(name string) (string, error) {
	parts := slices.DeleteFunc(strings.Split(name, "/"), func(part string) bool { return part == "" || part == "." })
	if slices.Contains(parts, "..") {
		return "", fmt.Errorf("%w: name with \"..\"", ErrBadEntry)
	}
	if len(parts) == 0 {
		return ".", nil
	}
	return strings.Join(parts, "/"), nil
}

func (t *tree) tarMeta(header *tar.Header) (rootfs.Meta, error) {
	// The highest id is chown(2)'s "leave as it is".
	if header.Uid < 0 || header.Uid >= math.MaxUint32 || header.Gid < 0 || header.Gid >= math.MaxUint32 {
		return rootfs.Meta{}, fmt.Errorf("%w: owner %d:%d", ErrBadEntry, header.Uid, header.Gid)
	}
	meta := rootfs.Meta{
		Mode:  uint32(header.Mode & 0o7777),
		UID:   header.Uid,
		GID:   header.Gid,
		Mtime: unix.Timespec{Sec: header.ModTime.Unix(), Nsec: int64(header.ModTime.Nanosecond())},
	}
	for record, value := range header.PAXRecords {
		if attr, ok := strings.CutPrefix(record, xattrRecord); ok {
			meta.Xattrs = append(meta.Xattrs, rootfs.Xattr{Name: attr, Value: []byte(value)})
		} else if strings.HasPrefix(record, aclRecord) {
			t.warn(header.Name)("ACLs as text: "+record, unix.ENOTSUP)
		}
	}
	slices.SortFunc(meta.Xattrs, func(a, b rootfs.Xattr) int { return strings.Compare(a.Name, b.Name) })
	return meta, nil
}

// tarBlock is the unit of a tar archive; two blocks of zeros end it, and one is enough.
const tarBlock = 512

// zeroTail counts the zero bytes that the data so far ends in.
type zeroTail struct {
	r     io.Reader
	zeros int64
}

func (z *zeroTail) Read(p []byte) (int, error) {
	n, err := z.r.Read(p)
	last := n
	for last > 0 && p[last-1] == 0 {
		last--
	}
	if last > 0 {
		z.zeros = 0
	}
	z.zeros += int64(n - last)
	return n, err
}
