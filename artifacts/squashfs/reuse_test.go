package squashfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"buildenv/artifacts"
)

// noise is content that nothing can make smaller, so that it can be found again.
func noise(seed uint64, size int) []byte {
	random := rand.New(rand.NewPCG(seed, 7))
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

// text is content that becomes smaller.
func text(seed uint64, size int) []byte {
	random := rand.New(rand.NewPCG(seed, 9))
	var b []byte
	for len(b) < size {
		b = fmt.Appendf(b, "line %d of something that compresses\n", random.Uint32()%1000)
	}
	return b[:size]
}

// sourceRoot is a root with files of all sizes that matter: many small ones that
// share fragments, large ones, with tails and without, with holes, and equal ones.
func sourceRoot(t *testing.T) string {
	t.Helper()
	root := makeRoot(t)
	in := func(name string) string { return filepath.Join(root, name) }
	must(t, os.MkdirAll(in("small/deep"), 0o755))
	must(t, os.Mkdir(in("large"), 0o755))
	for i := range uint64(150) {
		must(t, os.WriteFile(in(fmt.Sprintf("small/%03d", i)), text(i, 1000+int(i*97)), 0o644))
	}
	for i := range uint64(20) {
		must(t, os.WriteFile(in(fmt.Sprintf("small/deep/%03d", i)), noise(i, 5000), 0o644))
	}
	for i := range uint64(8) {
		must(t, os.WriteFile(in(fmt.Sprintf("large/%d", i)), text(1000+i, 300<<10+int(i)*1000), 0o644))
		must(t, os.WriteFile(in(fmt.Sprintf("large/noise-%d", i)), noise(1000+i, 256<<10), 0o644))
	}
	must(t, os.WriteFile(in("large/same-1"), text(5, 400<<10), 0o644))
	must(t, os.WriteFile(in("large/same-2"), text(5, 400<<10), 0o644))
	must(t, os.WriteFile(in("small/same-1"), text(6, 4000), 0o644))
	must(t, os.WriteFile(in("small/same-2"), text(6, 4000), 0o644))
	must(t, os.Link(in("large/1"), in("large/1-again")))
	must(t, os.Link(in("small/001"), in("small/001-again")))
	return root
}

// source is a root that has been unpacked from an archive, with its record.
type source struct{ archive, record, root string }

// unpacked makes a source; pack makes its archive of a root.
func unpacked(t *testing.T, pack func(root, archive string)) source {
	t.Helper()
	dir := t.TempDir()
	s := source{filepath.Join(dir, "archive"), filepath.Join(dir, "record"), filepath.Join(dir, "root")}
	pack(sourceRoot(t), s.archive)
	must(t, Unpack(t.Context(), s.archive, s.root, UnpackOptions{Record: s.record}))
	return s
}

func (s source) in(name string) string { return filepath.Join(s.root, name) }

func packedWith(t *testing.T, opts artifacts.PackOptions) func(root, archive string) {
	return func(root, archive string) {
		must(t, Packer{Log: slog.New(slog.DiscardHandler)}.Pack(t.Context(), root, archive, opts))
	}
}

func mksquashfs(t *testing.T, options ...string) func(root, archive string) {
	return func(root, archive string) {
		tool(t, "mksquashfs", append([]string{root, archive, "-quiet", "-no-progress"}, options...)...)
	}
}

var takenOver = regexp.MustCompile(`files_bytes=(\d+) archive_bytes=(\d+)`)

// repack packs a source's root anew and returns the archive and how many of the
// files' and the old archive's bytes were taken over.
func (s source) repack(t *testing.T, opts artifacts.PackOptions) (archive string, files, bytes int64) {
	t.Helper()
	archive = filepath.Join(t.TempDir(), "again")
	opts.From = s.archive
	log := new(strings.Builder)
	must(t, Packer{Log: slog.New(slog.NewTextHandler(log, nil))}.Pack(t.Context(), s.root, archive, opts))
	t.Log(log)
	if m := takenOver.FindStringSubmatch(log.String()); m != nil {
		files, _ = strconv.ParseInt(m[1], 10, 64)
		bytes, _ = strconv.ParseInt(m[2], 10, 64)
	}
	return archive, files, bytes
}

// wantArchiveOf checks that the tools and we unpack a root as it is, and that
// nothing is in the archive that no file refers to.
func wantArchiveOf(t *testing.T, root, archive string) {
	t.Helper()
	theirs := filepath.Join(t.TempDir(), "theirs")
	tool(t, "unsquashfs", "-quiet", "-no-progress", "-dest", theirs, archive)
	wantSame(t, root, theirs)
	wantUnpacked(t, root, archive)
}

// wantUnpacked is the same without the tools.
func wantUnpacked(t *testing.T, root, archive string) {
	t.Helper()
	ours := filepath.Join(t.TempDir(), "ours")
	must(t, Unpack(t.Context(), archive, ours, UnpackOptions{}))
	wantSame(t, root, ours)
	wantNothingElse(t, archive)
}

// wantNothingElse checks that every byte of the archive's data belongs to a
// file, and every byte of its fragments.
func wantNothingElse(t *testing.T, name string) {
	t.Helper()
	a := openArchive(t, name)
	var used []span
	tails := make([][]span, a.sb.Fragments)
	must(t, a.Walk(func(_ string, i *Inode) error {
		if !i.isFile() {
			return nil
		}
		for n, start := range i.starts() {
			used = append(used, span{uint32(start), uint32(start) + dataBlock{size: i.file.blocks[n]}.bytes()})
		}
		if f := i.file.fragment; f != noFragment {
			tails[f] = append(tails[f], span{i.file.offset, i.file.offset + uint32(i.Size%uint64(a.sb.BlockSize))})
		}
		return nil
	}))
	for index := range a.sb.Fragments {
		f, err := a.fragment(index)
		must(t, err)
		used = append(used, span{uint32(f.start), uint32(f.start) + f.bytes()})
		content, err := a.tails.get(index)
		must(t, err)
		if !covers(tails[index], uint32(len(content))) {
			t.Errorf("fragment %d holds more than the tails of files", index)
		}
	}
	begin := uint32(superblockSize)
	if a.sb.Flags&flagOptions != 0 {
		begin += 2 + uint32(len(a.compression.options(a.level)))
	}
	if !covers(append(used, span{0, begin}), uint32(a.sb.InodeTable)) {
		t.Error("there is data in the archive that no file refers to")
	}
}

// edits are changes of a source's root.
var edits = map[string]func(t *testing.T, s source){
	"nothing": func(*testing.T, source) {},
	"content of the same size, time restored": func(t *testing.T, s source) {
		for _, name := range []string{"small/007", "large/3", "large/noise-2"} {
			restoringTimes(t, s.in(name), func(f *os.File) error {
				_, err := f.WriteAt([]byte("changed"), 500)
				return err
			})
		}
	},
	"written through a mapping, time restored": func(t *testing.T, s source) {
		for _, name := range []string{"small/008", "large/4"} {
			restoringTimes(t, s.in(name), func(f *os.File) error {
				mapped, err := unix.Mmap(int(f.Fd()), 0, 1000, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
				if err != nil {
					return err
				}
				copy(mapped[100:], "changed")
				return unix.Munmap(mapped)
			})
		}
	},
	"deleted": func(t *testing.T, s source) {
		for _, name := range []string{"small/010", "large/2", "large/noise-3", "etc/motd", "small/same-1", "large/same-1"} {
			must(t, os.Remove(s.in(name)))
		}
		must(t, os.RemoveAll(s.in("small/deep")))
	},
	"replaced": func(t *testing.T, s source) {
		for _, name := range []string{"small/020", "large/5"} {
			content, err := os.ReadFile(s.in(name))
			must(t, err)
			content[len(content)/2] ^= 1
			must(t, os.WriteFile(s.in("new"), content, 0o600))
			must(t, os.Rename(s.in("new"), s.in(name)))
		}
		must(t, os.Remove(s.in("small/021")))
		must(t, os.Symlink("022", s.in("small/021")))
		must(t, os.Remove(s.in("small/023")))
		must(t, os.Mkdir(s.in("small/023"), 0o700))
		must(t, os.RemoveAll(s.in("small/deep")))
		must(t, os.WriteFile(s.in("small/deep"), []byte("a file now"), 0o644))
	},
	"renamed": func(t *testing.T, s source) {
		must(t, os.Rename(s.in("small/030"), s.in("small/moved")))
		must(t, os.Rename(s.in("large/6"), s.in("large/moved")))
		must(t, os.Rename(s.in("small/deep"), s.in("deep")))
		for _, pair := range [][2]string{{"small/031", "small/032"}, {"large/noise-0", "large/noise-1"}} { // swapped
			must(t, os.Rename(s.in(pair[0]), s.in("new")))
			must(t, os.Rename(s.in(pair[1]), s.in(pair[0])))
			must(t, os.Rename(s.in("new"), s.in(pair[1])))
		}
	},
	"linked": func(t *testing.T, s source) {
		must(t, os.Link(s.in("small/040"), s.in("aaa")))
		must(t, os.Link(s.in("large/0"), s.in("small/link")))
		must(t, os.Remove(s.in("large/1-again")))
		must(t, os.Remove(s.in("small/041")))
		must(t, os.Link(s.in("large/0"), s.in("small/041")))
	},
	"mode, owner, attributes": func(t *testing.T, s source) {
		must(t, os.Chmod(s.in("small/050"), 0o4755))
		must(t, os.Chown(s.in("large/0"), 1234, 4321))
		must(t, unix.Setxattr(s.in("small/051"), "user.new", []byte("attribute"), 0))
		must(t, unix.Setxattr(s.in("large/1"), "trusted.new", bytes.Repeat([]byte("x"), 2000), 0))
		must(t, unix.Removexattr(s.in("noise"), "security.capability"))
		must(t, os.Chtimes(s.in("small/052"), time.Unix(1, 0), time.Unix(1, 0)))
	},
	"shorter and longer": func(t *testing.T, s source) {
		must(t, os.Truncate(s.in("small/060"), 100))
		must(t, os.Truncate(s.in("small/061"), 0))
		must(t, os.Truncate(s.in("large/0"), 200<<10))
		must(t, os.Truncate(s.in("large/7"), 1000))
		for _, name := range []string{"small/062", "large/1"} {
			appendTo(t, s.in(name), text(77, 200<<10))
		}
	},
	"holes": func(t *testing.T, s source) {
		must(t, os.Truncate(s.in("large/2"), 5<<20))
		must(t, os.Truncate(s.in("sparse"), 7<<20))
		for _, name := range []string{"large/3", "large/noise-4"} {
			restoringTimes(t, s.in(name), func(f *os.File) error {
				return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 128<<10)
			})
		}
	},
	"new": func(t *testing.T, s source) {
		must(t, os.Mkdir(s.in("new"), 0o755))
		for i := range uint64(30) {
			must(t, os.WriteFile(s.in(fmt.Sprint("new/", i)), text(2000+i, int(i)*9000), 0o644))
		}
		copied, err := os.ReadFile(s.in("large/0")) // equal to one that is taken over
		must(t, err)
		must(t, os.WriteFile(s.in("new/copy"), copied, 0o644))
		must(t, os.WriteFile(s.in("first"), []byte("before all others"), 0o644))
	},
	"the root itself": func(t *testing.T, s source) {
		tool(t, "cp", "-a", s.root, s.root+"-copy")
		must(t, os.RemoveAll(s.root))
		must(t, os.Rename(s.root+"-copy", s.root))
	},
}

// restoringTimes changes a file and gives it back its times, as far as anybody can.
func restoringTimes(t *testing.T, name string, change func(*os.File) error) {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(name, &st))
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	must(t, err)
	must(t, change(f))
	must(t, f.Close())
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW))
}

func appendTo(t *testing.T, name string, content []byte) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = f.Write(content)
	must(t, errors.Join(err, f.Close()))
}

// Whatever is done to a root, the new archive is that of the root, with a record
// and without, and nothing else is in it.
func TestReuse(t *testing.T) {
	needTools(t)
	for name, edit := range edits {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			s := unpacked(t, packedWith(t, artifacts.PackOptions{}))
			edit(t, s)
			archive, trusting, _ := s.repack(t, artifacts.PackOptions{Record: s.record})
			wantArchiveOf(t, s.root, archive)
			compared, _, taken := s.repack(t, artifacts.PackOptions{})
			wantUnpacked(t, s.root, compared)
			verified, _, _ := s.repack(t, artifacts.PackOptions{Record: s.record, Verify: true})
			if !bytes.Equal(read(t, verified), read(t, compared)) {
				t.Error("with --verify the archive is another than without a record")
			}
			if taken < 2<<20 {
				t.Errorf("%d bytes of the old archive were taken over without a record", taken)
			}
			if name != "the root itself" && trusting < 2<<20 {
				t.Errorf("%d bytes of files were taken over unread", trusting)
			}
		})
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(name)
	must(t, err)
	return content
}

// What the tools have packed, in each way that changes where content lies.
func TestReuseOfWhatTheToolsWrite(t *testing.T) {
	muchWork(t)
	needTools(t)
	for _, options := range []string{"", "-comp zstd -Xcompression-level 3", "-comp xz", "-b 16k", "-no-fragments", "-always-use-fragments",
		"-no-duplicates", "-no-sparse", "-noF", "-noD"} {
		t.Run(strings.ReplaceAll(options, " ", "_"), func(t *testing.T) {
			s := unpacked(t, mksquashfs(t, strings.Fields(options)...))
			for _, edit := range []string{"content of the same size, time restored", "shorter and longer", "deleted"} {
				edits[edit](t, s)
			}
			archive, files, taken := s.repack(t, artifacts.PackOptions{Record: s.record})
			wantArchiveOf(t, s.root, archive)
			if files < 2<<20 || taken < 1<<20 {
				t.Errorf("%d bytes of files and %d of the archive were taken over", files, taken)
			}
			compared, _, taken := s.repack(t, artifacts.PackOptions{})
			wantUnpacked(t, s.root, compared)
			if taken < 1<<20 {
				t.Errorf("%d bytes of the archive were taken over without a record", taken)
			}
		})
	}
}

// An unchanged root makes the archive again that it came from.
func TestReuseOfEverything(t *testing.T) {
	needTools(t)
	for _, opts := range []artifacts.PackOptions{{}, {Compression: "zstd"}, {Compression: "xz"}, {Compression: "none"}, {BlockSize: 4096}} {
		t.Run(fmt.Sprint(opts.Compression, opts.BlockSize), func(t *testing.T) {
			s := unpacked(t, packedWith(t, opts))
			for _, record := range []string{s.record, ""} {
				archive, _, taken := s.repack(t, artifacts.PackOptions{Record: record})
				if !bytes.Equal(read(t, s.archive), read(t, archive)) {
					t.Errorf("with the record %q the archive is another one", record)
				}
				if a := openArchive(t, archive); taken+1000 < int64(a.sb.InodeTable) {
					t.Errorf("with the record %q, %d bytes of %d were taken over", record, taken, a.sb.InodeTable)
				}
			}
		})
	}
}

func TestReuseIsTheSameAtEveryParallelism(t *testing.T) {
	needTools(t)
	s := unpacked(t, packedWith(t, artifacts.PackOptions{}))
	edits["deleted"](t, s)
	edits["content of the same size, time restored"](t, s)
	var sums [][sha256.Size]byte
	for _, processors := range []int{1, 2, 5} {
		archive, _, _ := s.repack(t, artifacts.PackOptions{Record: s.record, Processors: processors})
		sums = append(sums, sha256.Sum256(read(t, archive)))
	}
	if sums[0] != sums[1] || sums[0] != sums[2] {
		t.Error("the archive depends on the number of processors")
	}
}

// Nothing of what was deleted or replaced is left, in whichever fragment or block it lay.
func TestReuseLeavesNoSecrets(t *testing.T) {
	needTools(t)
	for _, compression := range []string{"gzip", "none"} {
		s := unpacked(t, packedWith(t, artifacts.PackOptions{Compression: compression}))
		small, large := noise(3, 5000), noise(1003, 256<<10)
		before := everything(t, s.archive)
		for _, secret := range [][]byte{small[:200], large[:200]} {
			if !bytes.Contains(before, secret) {
				t.Fatal("the test looks for what was never there")
			}
		}
		must(t, os.Remove(s.in("small/deep/003")))
		must(t, os.WriteFile(s.in("large/noise-3"), noise(9999, 256<<10), 0o644))
		for _, record := range []string{s.record, ""} {
			archive, _, _ := s.repack(t, artifacts.PackOptions{Record: record})
			after := everything(t, archive)
			for _, secret := range [][]byte{small[:200], small[4000:4200], large[:200], large[200<<10:][:200]} {
				if bytes.Contains(after, secret) {
					t.Errorf("%s, record %q: what was deleted is still there", compression, record)
				}
			}
		}
	}
}

// everything is the archive's bytes, and all its data uncompressed.
func everything(t *testing.T, name string) []byte {
	t.Helper()
	var all bytes.Buffer
	all.Write(read(t, name))
	a := openArchive(t, name)
	must(t, a.Walk(func(_ string, i *Inode) error {
		if !i.isFile() {
			return nil
		}
		return a.WriteTo(&all, i)
	}))
	for index := range a.sb.Fragments {
		content, err := a.tails.get(index)
		must(t, err)
		all.Write(content)
	}
	return all.Bytes()
}

// Another compression or block size is made, by packing everything anew.
func TestReuseWithOtherOptions(t *testing.T) {
	needTools(t)
	s := unpacked(t, packedWith(t, artifacts.PackOptions{}))
	for _, opts := range []artifacts.PackOptions{{Compression: "zstd"}, {Compression: "none"}, {BlockSize: 64 << 10}} {
		opts.Record = s.record
		archive, _, taken := s.repack(t, opts)
		wantArchiveOf(t, s.root, archive)
		info := openArchive(t, archive).Info()
		if taken != 0 || opts.Compression != "" && info.Compression != opts.Compression || opts.BlockSize != 0 && info.BlockSize != opts.BlockSize {
			t.Errorf("%+v: %d bytes were taken over into %+v", opts, taken, info)
		}
	}
	lzo := unpacked(t, mksquashfs(t, "-comp", "lzo"))
	archive, _, taken := lzo.repack(t, artifacts.PackOptions{Record: lzo.record})
	wantArchiveOf(t, lzo.root, archive)
	if info := openArchive(t, archive).Info(); taken != 0 || info.Compression != "gzip" {
		t.Errorf("of lzo, %d bytes were taken over into %+v", taken, info)
	}
}

// A source that is not what it was is read and compared, or not used at all.
func TestReuseDoubts(t *testing.T) {
	needTools(t)
	tests := map[string]struct {
		spoil func(t *testing.T, s source)
		takes bool // blocks that are the same nevertheless
	}{
		"archive touched": {func(t *testing.T, s source) { must(t, os.Chtimes(s.archive, time.Now(), time.Now())) }, true},
		"archive rewritten": {func(t *testing.T, s source) {
			restoringTimes(t, s.archive, func(f *os.File) error {
				_, err := f.WriteAt(noise(1, 1000), 3000)
				return err
			})
		}, true},
		"tables damaged": {func(t *testing.T, s source) {
			f, err := os.OpenFile(s.archive, os.O_RDWR, 0)
			must(t, err)
			_, err = f.WriteAt(make([]byte, 200), int64(openArchive(t, s.archive).sb.DirectoryTable)+10)
			must(t, errors.Join(err, f.Close()))
		}, false},
		"another archive": {func(t *testing.T, s source) {
			must(t, os.Remove(s.archive))
			packedWith(t, artifacts.PackOptions{})(makeRoot(t), s.archive)
		}, false},
		"record damaged": {func(t *testing.T, s source) {
			content := read(t, s.record)
			content[len(content)/2] ^= 1
			must(t, os.WriteFile(s.record, content, 0o600))
		}, true},
		"record cut":        {func(t *testing.T, s source) { must(t, os.Truncate(s.record, 100)) }, true},
		"record of others":  {func(t *testing.T, s source) { must(t, os.Chown(s.record, 1000, 1000)) }, true},
		"record for others": {func(t *testing.T, s source) { must(t, os.Chmod(s.record, 0o666)) }, true},
		"no record":         {func(t *testing.T, s source) { must(t, os.Remove(s.record)) }, true},
		"record from the future": {func(t *testing.T, s source) {
			d, err := readIdentities(s.record)
			must(t, err)
			d.taken.Sec += 3600
			must(t, d.write(s.record))
		}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := unpacked(t, packedWith(t, artifacts.PackOptions{}))
			test.spoil(t, s)
			archive, _, taken := s.repack(t, artifacts.PackOptions{Record: s.record})
			wantUnpacked(t, s.root, archive)
			if (taken > 1<<20) != test.takes {
				t.Errorf("%d bytes were taken over", taken)
			}
		})
	}
}

// What was changed within the tick in which it was noted is not believed to be the same.
func TestIdentitiesOfTheLastMoment(t *testing.T) {
	d := &identities{taken: unix.Timespec{Sec: 10, Nsec: 5}, files: map[ref]stamp{
		1: {ino: 1, ctime: unix.Timespec{Sec: 10, Nsec: 4}}, 2: {ino: 2, ctime: unix.Timespec{Sec: 10, Nsec: 5}},
	}}
	for at, want := range map[ref]bool{1: true, 2: false, 3: false} {
		now := d.files[at]
		now.dev = 99
		if got := d.unchanged(at, now); got != want {
			t.Errorf("inode %d is unchanged: %v, want %v", at, got, want)
		}
	}
	now := d.files[1]
	now.size++
	if d.unchanged(1, now) {
		t.Error("another size is unchanged")
	}
}

// On a file system that keeps whole seconds, a change may leave no trace at all.
func TestWholeSecondsAreNotBelieved(t *testing.T) {
	needTools(t)
	image := filepath.Join(t.TempDir(), "ext")
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, 64<<20))
	tool(t, "mkfs.ext4", "-q", "-F", "-I", "128", "-b", "4096", image)
	disk := mountAt(t, "-o", "loop", image, t.TempDir())
	s := source{filepath.Join(disk, "archive"), filepath.Join(disk, "record"), filepath.Join(disk, "root")}
	packedWith(t, artifacts.PackOptions{})(sourceRoot(t), s.archive)
	must(t, Unpack(t.Context(), s.archive, s.root, UnpackOptions{Record: s.record}))
	edits["content of the same size, time restored"](t, s)
	archive, _, _ := s.repack(t, artifacts.PackOptions{Record: s.record})
	wantArchiveOf(t, s.root, archive)
	d, err := readIdentities(s.record)
	must(t, err)
	if d.taken != (unix.Timespec{}) {
		t.Errorf("identities were taken at %v", d.taken)
	}
}

func FuzzIdentities(f *testing.F) {
	name := filepath.Join(f.TempDir(), "record")
	d := identities{fragments: map[uint32]uint32{1: 2}, files: map[ref]stamp{5: {ino: 6, size: 7}}}
	if err := d.write(name); err != nil {
		f.Fatal(err)
	}
	content, err := os.ReadFile(name)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content[:len(content)-sha256.Size])
	f.Fuzz(func(t *testing.T, body []byte) {
		sum := sha256.Sum256(body)
		decodeIdentities(body)
		decodeIdentities(append(slices.Clone(body), sum[:]...))
	})
}

// Cancelled half-way, or out of disk: nothing is left, the source is as it was.
func TestReuseThatFails(t *testing.T) {
	needTools(t)
	s := unpacked(t, packedWith(t, artifacts.PackOptions{}))
	before := read(t, s.archive)
	small := mountAt(t, "-t", "tmpfs", "-o", "size=1m", "tmpfs", t.TempDir())
	opts := artifacts.PackOptions{From: s.archive, Record: s.record}
	err := Packer{Log: slog.New(slog.DiscardHandler)}.Pack(t.Context(), s.root, filepath.Join(small, "b"), opts)
	if err == nil || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("error %v, want no space left", err)
	}
	wantOnly(t, small)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	if err := (Packer{Log: slog.New(slog.DiscardHandler)}).Pack(ctx, s.root, filepath.Join(dir, "b"), opts); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	wantOnly(t, dir)
	opts.From = filepath.Join(dir, "none")
	if err := (Packer{Log: slog.New(slog.DiscardHandler)}).Pack(t.Context(), s.root, filepath.Join(dir, "b"), opts); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want that there is no such archive", err)
	}
	if !bytes.Equal(before, read(t, s.archive)) {
		t.Error("the source is another one")
	}
}

// What is written through a mapping leaves no trace on a file system in memory.
func TestFilesInMemoryAreRead(t *testing.T) {
	needTools(t)
	memory := mountAt(t, "-t", "tmpfs", "tmpfs", t.TempDir())
	s := source{filepath.Join(memory, "archive"), filepath.Join(memory, "record"), filepath.Join(memory, "root")}
	packedWith(t, artifacts.PackOptions{})(sourceRoot(t), s.archive)
	must(t, Unpack(t.Context(), s.archive, s.root, UnpackOptions{Record: s.record}))
	edits["written through a mapping, time restored"](t, s)
	archive, _, taken := s.repack(t, artifacts.PackOptions{Record: s.record})
	wantArchiveOf(t, s.root, archive)
	if taken < 2<<20 {
		t.Errorf("%d bytes were taken over", taken)
	}
}
