package squashfs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"buildenv/artifacts"
)

// appended packs a source's root anew in the append layout.
func (s source) appended(t *testing.T, opts artifacts.PackOptions) (archive string, ranges []artifacts.Range) {
	t.Helper()
	told := 0
	opts.Layout = artifacts.LayoutAppend
	opts.Unchanged = func(r []artifacts.Range) { ranges, told = r, told+1 }
	archive, _, _ = s.repack(t, opts)
	if told != 1 {
		t.Errorf("the ranges were told %d times", told)
	}
	return archive, ranges
}

func length(ranges []artifacts.Range) (total int64) {
	for _, r := range ranges {
		total += r.Length
	}
	return total
}

// wantAppended checks that ranges of an archive are those of the old one, in
// order, and that every byte of its data belongs to a file or is zero.
func wantAppended(t *testing.T, old, name string, ranges []artifacts.Range) {
	t.Helper()
	before, after := read(t, old), read(t, name)
	end := int64(0)
	for _, r := range ranges {
		if r.Offset <= end || r.Length <= 0 || r.Offset+r.Length > int64(len(before)) {
			t.Fatalf("range %+v after one that ends at %d", r, end)
		}
		end = r.Offset + r.Length
		if !bytes.Equal(before[r.Offset:end], after[r.Offset:end]) {
			t.Errorf("range %+v is another one", r)
		}
	}
	a := openArchive(t, name)
	if a.sb.Flags&flagOptions != 0 {
		clear(after[superblockSize : superblockSize+2+len(a.compression.options(a.level))])
	}
	clear(after[:superblockSize])
	tails := make([][]span, a.sb.Fragments)
	must(t, a.Walk(func(_ string, i *Inode) error {
		if !i.isFile() {
			return nil
		}
		for n, start := range i.starts() {
			clear(after[start : start+uint64(dataBlock{size: i.file.blocks[n]}.bytes())])
		}
		if f := i.file.fragment; f != noFragment {
			tails[f] = append(tails[f], span{i.file.offset, i.file.offset + uint32(i.Size%uint64(a.sb.BlockSize))})
		}
		return nil
	}))
	for index := range a.sb.Fragments {
		f, err := a.fragment(index)
		must(t, err)
		clear(after[f.start : f.start+uint64(f.bytes())])
		content, err := a.tails.get(index)
		must(t, err)
		if !covers(tails[index], uint32(len(content))) {
			t.Errorf("fragment %d holds more than the tails of files", index)
		}
	}
	if rest := bytes.TrimLeft(after[:a.sb.InodeTable], "\x00"); len(rest) > 0 {
		t.Errorf("at %d there is something that no file refers to", int(a.sb.InodeTable)-len(rest))
	}
	if len(bytes.Trim(after[a.sb.Size:], "\x00")) > 0 {
		t.Error("behind the archive there is something")
	}
}

// Whatever is done to a root, what is unchanged stays where it is, and nothing
// of the rest.
func TestAppend(t *testing.T) {
	needTools(t)
	for name, edit := range edits {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			s := unpacked(t, packedWith(t, artifacts.PackOptions{}))
			edit(t, s)
			archive, ranges := s.appended(t, artifacts.PackOptions{Record: s.record})
			wantAppended(t, s.archive, archive, ranges)
			wantSame(t, s.root, mountAt(t, "-o", "loop,ro", archive, t.TempDir()))
			compared, without := s.appended(t, artifacts.PackOptions{})
			wantAppended(t, s.archive, compared, without)
			tree := filepath.Join(t.TempDir(), "tree")
			must(t, Unpack(t.Context(), compared, tree, UnpackOptions{}))
			wantSame(t, s.root, tree)
			if n, m := length(ranges), length(without); (n < 2<<20 || m < 2<<20) && name != "the root itself" {
				t.Errorf("%d bytes are where they were, without a record %d", n, m)
			}
		})
	}
}

// What the tools have packed stays where they have put it.
func TestAppendToWhatTheToolsWrite(t *testing.T) {
	needTools(t)
	for _, options := range []string{"", "-comp zstd -Xcompression-level 3", "-comp xz", "-always-use-fragments", "-noF -noD"} {
		t.Run(strings.ReplaceAll(options, " ", "_"), func(t *testing.T) {
			s := unpacked(t, mksquashfs(t, strings.Fields(options)...))
			for _, edit := range []string{"content of the same size, time restored", "new"} {
				edits[edit](t, s)
			}
			for _, record := range []string{s.record, ""} {
				archive, ranges := s.appended(t, artifacts.PackOptions{Record: record})
				wantAppended(t, s.archive, archive, ranges)
				tree := filepath.Join(t.TempDir(), "tree")
				tool(t, "unsquashfs", "-quiet", "-no-progress", "-dest", tree, archive)
				wantSame(t, s.root, tree)
				if n := length(ranges); n < 1<<20 && (record != "" || options != "-always-use-fragments") {
					t.Errorf("%d bytes are where they were, with the record %q", n, record)
				}
			}
		})
	}
}

// Whatever the old archive says of its compressor, the new one says what is so,
// and its blocks can be read.
func TestAppendToAllOptions(t *testing.T) {
	muchWork(t)
	needTools(t)
	for options, level := range map[string]int{"-comp xz -Xdict-size 8192": 0, "-comp xz -Xbcj x86": 0, "-Xwindow-size 10": 6,
		"-Xstrategy huffman_only": 6, "-Xcompression-level 1": 6, "-Xcompression-level 9": 9, "-comp zstd": 15, "-comp zstd -Xcompression-level 1": 3} {
		t.Run(strings.ReplaceAll(options, " ", "_"), func(t *testing.T) {
			s := unpacked(t, mksquashfs(t, strings.Fields(options)...))
			edits["new"](t, s)
			archive, ranges := s.appended(t, artifacts.PackOptions{})
			wantAppended(t, s.archive, archive, ranges)
			wantSame(t, s.root, mountAt(t, "-o", "loop,ro", archive, t.TempDir()))
			if got := openArchive(t, archive).Info().Level; got != level || length(ranges) < 1<<20 {
				t.Errorf("level %d, want %d; %v are where they were", got, level, ranges)
			}
		})
	}
}

// A level that there is not, which the tools refuse, does not stay.
func TestAppendToAWrongLevel(t *testing.T) {
	needTools(t)
	s := unpacked(t, packedWith(t, artifacts.PackOptions{Level: 5}))
	content := read(t, s.archive)
	binary.LittleEndian.PutUint32(content[superblockSize+2:], 77)
	must(t, os.WriteFile(s.archive, content, 0o644))
	archive, ranges := s.appended(t, artifacts.PackOptions{})
	theirs := filepath.Join(t.TempDir(), "theirs")
	tool(t, "unsquashfs", "-quiet", "-no-progress", "-dest", theirs, archive)
	wantSame(t, s.root, theirs)
	if len(ranges) == 0 {
		t.Error("nothing stayed")
	}
}

// What was dropped before is zero in both archives, so that it is unchanged, too.
func TestAppendTellsOfZerosThatStay(t *testing.T) {
	needTools(t)
	s := unpacked(t, packedWith(t, artifacts.PackOptions{}))
	must(t, os.Remove(s.in("large/noise-3")))
	first, ranges := s.appended(t, artifacts.PackOptions{})
	holes := len(ranges) - 1
	s.archive = first
	second, ranges := s.appended(t, artifacts.PackOptions{})
	wantAppended(t, first, second, ranges)
	if holes < 1 || len(ranges) != 1 {
		t.Errorf("%d holes, then %d ranges, want one", holes, len(ranges))
	}
}

// What is dropped takes no room where the file system knows holes.
func TestAppendLeavesHoles(t *testing.T) {
	needTools(t)
	s := unpacked(t, packedWith(t, artifacts.PackOptions{}))
	must(t, os.Remove(s.in("large/noise-3")))
	archive, _ := s.appended(t, artifacts.PackOptions{Record: s.record})
	var st unix.Stat_t
	must(t, unix.Stat(archive, &st))
	if room := st.Blocks * 512; room+200<<10 > st.Size {
		t.Errorf("an archive of %d bytes with 256 KiB dropped takes %d", st.Size, room)
	}
}

// Names of what was deleted are nowhere in the archive, nor are its attributes.
func TestAppendLeavesNoNames(t *testing.T) {
	needTools(t)
	for _, compression := range []string{"gzip", "none"} {
		s := unpacked(t, func(root, archive string) {
			must(t, os.WriteFile(filepath.Join(root, "small/the-name-of-a-secret"), noise(1, 9000), 0o644))
			must(t, unix.Setxattr(filepath.Join(root, "small/the-name-of-a-secret"), "user.secret", []byte("the-value-of-a-secret"), 0))
			must(t, os.Symlink("the-target-of-a-secret", filepath.Join(root, "small/the-link-of-a-secret")))
			packedWith(t, artifacts.PackOptions{Compression: compression})(root, archive)
		})
		for _, name := range []string{"the-name-of-a-secret", "the-link-of-a-secret"} {
			must(t, os.Remove(s.in("small/"+name)))
		}
		archive, ranges := s.appended(t, artifacts.PackOptions{Record: s.record})
		before, after := metadataOf(t, s.archive), metadataOf(t, archive)
		if len(ranges) == 0 || bytes.Count(before, []byte("-of-a-secret")) != 4 {
			t.Fatalf("%s: the test looks for what was never there: %d ranges", compression, len(ranges))
		}
		if bytes.Contains(after, []byte("-of-a-secret")) {
			t.Errorf("%s: a name is still there", compression)
		}
		wantAppended(t, s.archive, archive, ranges) // and no byte outside of the tables
	}
}

// metadataOf are an archive's inodes, listings and attributes, uncompressed.
func metadataOf(t *testing.T, name string) (all []byte) {
	t.Helper()
	a := openArchive(t, name)
	for _, table := range []*metadata{a.inodes, a.directories, newMetadata(a.r, binary.LittleEndian.Uint64(read(t, name)[a.sb.XattrTable:]), a.sb.XattrTable, a.pool)} {
		for at := uint64(0); table.start+at < table.end; {
			b, err := table.block(at)
			if err != nil {
				break // what follows the table's last block
			}
			all, at = append(all, b.data...), b.next
		}
	}
	return all
}

// With much of it gone, and without another archive, the archive is the compact one.
func TestAppendOrCompact(t *testing.T) {
	needTools(t)
	s := unpacked(t, packedWith(t, artifacts.PackOptions{}))
	must(t, os.RemoveAll(s.in("large")))
	for _, opts := range []artifacts.PackOptions{{Record: s.record}, {}, {Compression: "zstd"}} {
		compact, _, _ := s.repack(t, opts)
		archive, ranges := s.appended(t, opts)
		if len(ranges) > 0 || !bytes.Equal(read(t, compact), read(t, archive)) {
			t.Errorf("%+v: the archive is another one, with %d ranges", opts, len(ranges))
		}
	}
	s.archive = ""
	if archive, ranges := s.appended(t, artifacts.PackOptions{}); len(ranges) > 0 {
		t.Errorf("%s: %d ranges of no archive", archive, len(ranges))
	}
	if err := CheckOptions(artifacts.PackOptions{Layout: "loose"}); err == nil || !strings.Contains(err.Error(), `layout "loose": want compact or append`) {
		t.Errorf("error %v", err)
	}
}

// With a record it is known beforehand that too much would be empty; where files
// are compared, it turns out when that is done.
func TestAppendForeseesThatTooMuchIsGone(t *testing.T) {
	needTools(t)
	for _, test := range []struct {
		record bool
		want   string
	}{{true, "made compact: too much of it would be empty"}, {false, "made once more, compact: too much of it is empty"}} {
		s := unpacked(t, packedWith(t, artifacts.PackOptions{}))
		for i := range uint64(8) {
			restoringTimes(t, s.in(fmt.Sprintf("large/noise-%d", i)), func(f *os.File) error {
				_, err := f.WriteAt(bytes.Repeat([]byte("a"), 256<<10), 0)
				return err
			})
		}
		opts := artifacts.PackOptions{From: s.archive, Layout: artifacts.LayoutAppend}
		if test.record {
			must(t, os.RemoveAll(s.in("large")))
			opts.Record = s.record
		}
		var log bytes.Buffer
		archive := filepath.Join(t.TempDir(), "a")
		must(t, packer(&log).Pack(t.Context(), s.root, archive, opts))
		if !strings.Contains(log.String(), test.want) || strings.Count(log.String(), "compact") != 1 {
			t.Errorf("log %s, want %q", &log, test.want)
		}
		wantUnpacked(t, s.root, archive)
	}
}

// An unchanged root makes the same archive, all of it where it was.
func TestAppendNothing(t *testing.T) {
	needTools(t)
	for _, opts := range []artifacts.PackOptions{{}, {Compression: "none"}, {BlockSize: 4096}} {
		s := unpacked(t, packedWith(t, opts))
		for _, record := range []string{s.record, ""} {
			archive, ranges := s.appended(t, artifacts.PackOptions{Record: record})
			if !bytes.Equal(read(t, s.archive), read(t, archive)) || len(ranges) != 1 {
				t.Errorf("%+v, record %q: the archive is another one, ranges %v", opts, record, ranges)
			}
		}
	}
}

func TestAppendIsTheSameAtEveryParallelism(t *testing.T) {
	needTools(t)
	s := unpacked(t, packedWith(t, artifacts.PackOptions{}))
	for _, edit := range []string{"renamed", "content of the same size, time restored", "new"} {
		edits[edit](t, s)
	}
	for _, record := range []string{s.record, ""} {
		first, want := s.appended(t, artifacts.PackOptions{Record: record, Processors: 1})
		for _, processors := range []int{2, 5} {
			archive, ranges := s.appended(t, artifacts.PackOptions{Record: record, Processors: processors})
			if !bytes.Equal(read(t, first), read(t, archive)) || !slices.Equal(want, ranges) {
				t.Errorf("with %d processors and the record %q the archive is another one", processors, record)
			}
		}
	}
}

// Between file systems copies go another way, beside which files move whose last
// block has changed.
func TestAppendOnAnotherFileSystem(t *testing.T) {
	needTools(t)
	s := unpacked(t, packedWith(t, artifacts.PackOptions{}))
	for i := range 6 {
		restoringTimes(t, s.in(fmt.Sprintf("large/%d", i)), func(f *os.File) error {
			_, err := f.WriteAt([]byte("changed"), 290<<10)
			return err
		})
	}
	memory := mountAt(t, "-t", "tmpfs", "tmpfs", t.TempDir())
	for _, record := range []string{s.record, ""} {
		opts := artifacts.PackOptions{Record: record}
		here, ranges := s.appended(t, opts)
		wantAppended(t, s.archive, here, ranges)
		opts.From, opts.Layout = s.archive, artifacts.LayoutAppend
		for round := range 5 {
			there := filepath.Join(memory, fmt.Sprint(len(record), "-", round))
			packedWith(t, opts)(s.root, there)
			if !bytes.Equal(read(t, here), read(t, there)) {
				t.Errorf("record %q, round %d: the archive is another one", record, round)
			}
		}
	}
}

// Of an overlay on the old archive, too.
func TestAppendOfAnOverlay(t *testing.T) {
	needTools(t)
	for name, pack := range map[string]func(root, archive string){
		"ours": packedWith(t, artifacts.PackOptions{}), "tails of large files": mksquashfs(t, "-always-use-fragments", "-Xcompression-level", "6"),
	} {
		t.Run(name, func(t *testing.T) {
			l := overlaid(t, pack)
			l.change(t)
			archive, ranges := l.appended(t, l.options())
			wantAppended(t, l.archive, archive, ranges)
			out := filepath.Join(t.TempDir(), "out")
			must(t, Unpack(t.Context(), archive, out, UnpackOptions{}))
			wantSame(t, l.root, out)
			if n := length(ranges); n < 1<<20 {
				t.Errorf("%d bytes are where they were", n)
			}
		})
	}
}

// Nothing of what was deleted or replaced is left, stored or compressed.
func TestAppendLeavesNoSecrets(t *testing.T) {
	needTools(t)
	for _, compression := range []string{"gzip", "none"} {
		s := unpacked(t, packedWith(t, artifacts.PackOptions{Compression: compression}))
		must(t, os.Remove(s.in("small/deep/003")))
		must(t, os.WriteFile(s.in("large/noise-3"), noise(9999, 256<<10), 0o644))
		secrets := [][]byte{noise(3, 5000)[:200], noise(3, 5000)[4000:4200], noise(1003, 256<<10)[:200], noise(1003, 256<<10)[200<<10:][:200]}
		for _, name := range []string{"large/2", "large/5"} { // that compress
			secrets = append(secrets, storedBlock(t, s.archive, name)...)
			must(t, os.Remove(s.in(name)))
		}
		before := everything(t, s.archive)
		for _, record := range []string{s.record, ""} {
			archive, ranges := s.appended(t, artifacts.PackOptions{Record: record})
			after := everything(t, archive)
			if len(ranges) == 0 {
				t.Error("nothing stayed")
			}
			for i, secret := range secrets {
				if !bytes.Contains(before, secret) {
					t.Fatal("the test looks for what was never there")
				}
				if bytes.Contains(after, secret) {
					t.Errorf("%s, record %q: secret %d is still there", compression, record, i)
				}
			}
		}
	}
}

// storedBlock are the beginnings of a file's blocks, as they are stored.
func storedBlock(t *testing.T, archive, path string) (pieces [][]byte) {
	t.Helper()
	all := read(t, archive)
	must(t, openArchive(t, archive).Walk(func(name string, i *Inode) error {
		if name == path {
			for n, start := range i.starts() {
				pieces = append(pieces, all[start:][:min(200, dataBlock{size: i.file.blocks[n]}.bytes())])
			}
		}
		return nil
	}))
	return pieces
}

// Ten times one per cent: the archive stays that of the root, and does not grow
// beyond what is allowed to be empty.
func TestAppendAgainAndAgain(t *testing.T) {
	muchWork(t)
	needTools(t)
	s := unpacked(t, packedWith(t, artifacts.PackOptions{}))
	stayed := 0
	for round := range uint64(10) {
		for i := range uint64(2) {
			must(t, os.WriteFile(s.in(fmt.Sprintf("small/%03d", (round*37+i*53)%150)), text(5000+round, 3000+int(round*211)), 0o644))
		}
		must(t, os.WriteFile(s.in(fmt.Sprintf("large/noise-%d", round%8)), noise(7000+round, 256<<10), 0o644))
		archive, ranges := s.appended(t, artifacts.PackOptions{})
		wantAppended(t, s.archive, archive, ranges)
		if len(ranges) > 0 {
			stayed++
		}
		compact, _, _ := s.repack(t, artifacts.PackOptions{})
		most := int64(len(read(t, compact)))*5/4 + 64<<10
		if size := int64(len(read(t, archive))); size > most {
			t.Errorf("round %d: %d bytes, want at most %d", round, size, most)
		}
		s.archive = archive
	}
	if stayed < 5 || stayed == 10 {
		t.Errorf("%d of 10 archives are not compact", stayed)
	}
	wantSame(t, s.root, mountAt(t, "-o", "loop,ro", s.archive, t.TempDir()))
	theirs := filepath.Join(t.TempDir(), "theirs")
	tool(t, "unsquashfs", "-quiet", "-no-progress", "-dest", theirs, s.archive)
	wantSame(t, s.root, theirs)
}

// Out of disk: nothing is left, the source is as it was.
func TestAppendThatFails(t *testing.T) {
	needTools(t)
	s := unpacked(t, packedWith(t, artifacts.PackOptions{}))
	before := read(t, s.archive)
	small := mountAt(t, "-t", "tmpfs", "-o", "size=1m", "tmpfs", t.TempDir())
	opts := artifacts.PackOptions{From: s.archive, Record: s.record, Layout: artifacts.LayoutAppend, Unchanged: func([]artifacts.Range) {
		t.Error("ranges were told of an archive that is not there")
	}}
	err := Packer{Log: slog.New(slog.DiscardHandler)}.Pack(t.Context(), s.root, filepath.Join(small, "b"), opts)
	if err == nil || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("error %v, want no space left", err)
	}
	wantOnly(t, small)
	if !bytes.Equal(before, read(t, s.archive)) {
		t.Error("the source is another one")
	}
}
