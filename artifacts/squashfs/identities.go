package squashfs

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"buildenv/internal/fsx"
)

// identities are what the files of a root looked like when they had just been
// unpacked. A file that still looks the same has not been changed since: every
// change gives it a new change time (ctime), which only the kernel sets, and
// which was in the past when the identities were taken.
//
// That holds for file systems on which writing through a mapping counts as a
// change, too, and as long as the clock is not set back; see trustworthy.
type identities struct {
	archive   stamp             // of the archive's file
	taken     unix.Timespec     // later than any ctime of an unchanged file
	fragments map[uint32]uint32 // how long those are uncompressed that files use
	files     map[ref]stamp     // regular files, by their inodes in the archive
}

// newIdentities begins a record for an archive that is there.
func newIdentities(archive *os.File) (*identities, error) {
	s, err := stampArchive(archive)
	return &identities{archive: s, files: map[ref]stamp{}}, err
}

// stampArchive is what the file of an archive looks like. A change of it from now
// on has a later time than its last.
func stampArchive(archive *os.File) (stamp, error) {
	s, err := stampFile(int(archive.Fd()))
	if s.dev = 0; !before(s.ctime, clock()) {
		nextTick()
	}
	return s, err
}

// The record on disk: a line, the head, the fragments, the files, and a digest
// of all of that.
const identitiesMagic = "buildenv identities 1\n"

type (
	identitiesHead struct {
		Archive, Taken   identity
		Fragments, Files uint32
	}
	fragmentLength struct{ Index, Length uint32 }
	identity       struct {
		Ref                    ref
		Inode                  uint64
		Size, Mtime, Ctime     int64
		MtimeNanos, CtimeNanos int32
	}
)

func newIdentity(at ref, s stamp) identity {
	return identity{at, s.ino, s.size, s.mtime.Sec, s.ctime.Sec, int32(s.mtime.Nsec), int32(s.ctime.Nsec)}
}

// stamp leaves out the device: it is numbered anew when a volume is mounted again.
func (i identity) stamp() stamp {
	return stamp{
		ino: i.Inode, size: i.Size,
		mtime: unix.Timespec{Sec: i.Mtime, Nsec: int64(i.MtimeNanos)}, ctime: unix.Timespec{Sec: i.Ctime, Nsec: int64(i.CtimeNanos)},
	}
}

// write makes the record, whole or not at all.
func (d *identities) write(name string) error {
	f, err := fsx.Create(name, 0o600)
	if err != nil {
		return err
	}
	defer f.Discard()
	hash := sha256.New()
	out := bufio.NewWriterSize(io.MultiWriter(f, hash), 1<<16)
	out.WriteString(identitiesMagic) // the writer keeps the first error for Flush
	head := identitiesHead{newIdentity(0, d.archive), newIdentity(0, stamp{ctime: d.taken}), uint32(len(d.fragments)), uint32(len(d.files))}
	binary.Write(out, binary.LittleEndian, head)
	for index, length := range d.fragments {
		binary.Write(out, binary.LittleEndian, fragmentLength{index, length})
	}
	for at, s := range d.files {
		binary.Write(out, binary.LittleEndian, newIdentity(at, s))
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if _, err := f.Write(hash.Sum(nil)); err != nil {
		return err
	}
	return f.Commit()
}

// maxIdentities bounds a record, in bytes; it is what 16 million files need.
const maxIdentities = 1 << 30

// readIdentities reads a record that only its owner could have written.
func readIdentities(name string) (*identities, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, os.NewSyscallError("stat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o022 != 0 || int(st.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("%s: others could have written it", name)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxIdentities))
	if err != nil {
		return nil, err
	}
	d, err := decodeIdentities(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return d, nil
}

func decodeIdentities(content []byte) (*identities, error) {
	body, digest := content, []byte(nil)
	if end := len(content) - sha256.Size; end >= 0 {
		body, digest = content[:end], content[end:]
	}
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], digest) || !bytes.HasPrefix(body, []byte(identitiesMagic)) {
		return nil, malformed("no record of identities, or a damaged one")
	}
	r := bytes.NewReader(body[len(identitiesMagic):])
	var head identitiesHead
	if err := binary.Read(r, binary.LittleEndian, &head); err != nil {
		return nil, malformed("a record of identities without a head")
	}
	if want := int64(head.Fragments)*int64(binary.Size(fragmentLength{})) + int64(head.Files)*int64(binary.Size(identity{})); int64(r.Len()) != want {
		return nil, malformed("a record of identities of %d bytes, want %d", r.Len(), want)
	}
	d := &identities{
		archive: head.Archive.stamp(), taken: head.Taken.stamp().ctime,
		fragments: make(map[uint32]uint32, head.Fragments), files: make(map[ref]stamp, head.Files),
	}
	rest := body[len(body)-r.Len():]
	for range head.Fragments {
		var f fragmentLength
		n, err := binary.Decode(rest, binary.LittleEndian, &f)
		if err != nil {
			return nil, err
		}
		d.fragments[f.Index], rest = f.Length, rest[n:]
	}
	for len(rest) > 0 {
		var i identity
		n, err := binary.Decode(rest, binary.LittleEndian, &i)
		if err != nil {
			return nil, err
		}
		d.files[i.Ref], rest = i.stamp(), rest[n:]
	}
	return d, nil
}

// unchanged tells whether a file is the one that was unpacked from an inode.
func (d *identities) unchanged(at ref, now stamp) bool {
	then, ok := d.files[at]
	now.dev = 0
	return ok && then == now && before(now.ctime, d.taken)
}

func before(a, b unix.Timespec) bool { return a.Sec < b.Sec || a.Sec == b.Sec && a.Nsec < b.Nsec }

// File systems that note a change in ctime whichever way it is made, by the type
// that statfs(2) has for them. tmpfs is not among them: what is written to a
// mapped file of it leaves no trace. Nor are those whose files others may
// change behind our back.
var trustworthy = map[int64]bool{
	unix.EXT4_SUPER_MAGIC:  true, // ext2 and ext3, too
	unix.XFS_SUPER_MAGIC:   true,
	unix.BTRFS_SUPER_MAGIC: true,
}

// doubt is a reason not to believe in identities at all, "" for none.
func (d *identities) doubt(root int, archive *os.File) string {
	if !notesChanges(root) {
		return noteless
	}
	return d.doubtArchive(archive)
}

const noteless = "a file system that does not note every change"

func notesChanges(fd int) bool {
	var fs unix.Statfs_t
	return unix.Fstatfs(fd, &fs) == nil && trustworthy[int64(fs.Type)]
}

// doubtArchive is a reason not to believe that the archive is what it was.
func (d *identities) doubtArchive(archive *os.File) string {
	if !notesChanges(int(archive.Fd())) {
		return noteless
	}
	is, err := stampFile(int(archive.Fd()))
	if is.dev = 0; err != nil || is != d.archive || is.ctime.Nsec == 0 { // which would be whole seconds
		return "the archive is not the one that the root was unpacked from, or has been touched since"
	}
	// Not the clock that stands still between ticks: the time of a change may be finer.
	if now := time.Now(); before(unix.Timespec{Sec: now.Unix(), Nsec: int64(now.Nanosecond())}, d.taken) {
		return "the clock has been set back"
	}
	return ""
}

// clock is the one that the kernel takes ctimes from.
func clock() (now unix.Timespec) {
	unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now)
	return now
}

// tick is longer than the kernel's clock stands still (CONFIG_HZ is 100 at least).
const tick = 10 * time.Millisecond

// nextTick waits until changes get a later time than those before.
func nextTick() {
	for begin := clock(); !before(begin, clock()); {
		time.Sleep(tick)
	}
}

// fileClock is the time that a change gets now on a directory's file system,
// later than that of any change before. It is zero, before everything, where
// nobody can tell: on a file system that keeps whole seconds, changes that follow
// each other have the same time.
func fileClock(dir string) (unix.Timespec, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return unix.Timespec{}, nil
	}
	if err != nil {
		return unix.Timespec{}, os.NewSyscallError("open", err)
	}
	defer unix.Close(fd)
	first, err := stampFile(fd)
	if err != nil {
		return unix.Timespec{}, err
	}
	for range 10 {
		time.Sleep(tick)
		if err := touch(fd); err != nil {
			return unix.Timespec{}, err
		}
		now, err := stampFile(fd)
		if err != nil {
			return unix.Timespec{}, err
		}
		if before(first.ctime, now.ctime) && now.ctime.Nsec != 0 {
			return now.ctime, nil
		}
	}
	return unix.Timespec{}, nil
}

// touch gives an open file the time of now (utimensat(2) without times).
func touch(fd int) error {
	if _, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, 0, 0, 0, 0); errno != 0 {
		return os.NewSyscallError("set times", errno)
	}
	return nil
}
