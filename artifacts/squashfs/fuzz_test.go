package squashfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"buildenv/artifacts"
	"buildenv/internal/treediff"
)

// seedArchives are archives of a small tree, one for each compression.
func seedArchives(t testing.TB) [][]byte {
	root := t.TempDir()
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	write("small", "a small file\n")
	write("same", "a small file\n")
	write("large", string(bytes.Repeat([]byte("0123456789"), 1000)))
	write("random", string(fmt.Append(nil, time.Now().Nanosecond())))
	errs := []error{os.Mkdir(filepath.Join(root, "dir"), 0o755), os.Symlink("small", filepath.Join(root, "dir", "link")),
		os.Link(filepath.Join(root, "small"), filepath.Join(root, "dir", "hard"))}
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	var archives [][]byte
	for _, c := range []string{"gzip", "zstd", "xz", "none"} {
		name := filepath.Join(t.TempDir(), c)
		p := Packer{Log: slog.New(slog.DiscardHandler)}
		if err := p.Pack(t.Context(), root, name, artifacts.PackOptions{Compression: c, BlockSize: minBlockSize}); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		archives = append(archives, content)
	}
	for _, c := range readOnly {
		content, err := os.ReadFile(filepath.Join("testdata", "archives", c))
		if err != nil {
			t.Fatal(err)
		}
		archives = append(archives, content)
	}
	return archives
}

// readOnly are compressors of which testdata/archives has an archive that
// mksquashfs 4.5.1 has made: of small files, one of 9000 bytes and one of zeros,
// links, a fifo, an attribute.
var readOnly = []string{"lz4", "lzma", "lzo", "xz"}

func TestReadsArchivesOfOtherTools(t *testing.T) {
	for _, c := range readOnly {
		a := openArchive(t, filepath.Join("testdata", "archives", c))
		var got []string
		must(t, a.Walk(func(path string, i *Inode) error {
			list, err := a.Xattrs(i)
			if err != nil {
				return err
			}
			var content bytes.Buffer
			if i.isFile() {
				err = a.WriteTo(&content, i)
			}
			got = append(got, fmt.Sprintf("%s %o %d %s %.12q %d", path, i.Mode, i.Links, i.Target, content.Bytes(), len(list)))
			return err
		}))
		want := []string{
			`. 40755 3  "" 0`, `a 100644 2  "small\n" 1`, `big 100644 1  "0123456789\n0" 0`, `d 40755 2  "" 0`, `fifo 10644 1  "" 0`,
			`hard 100644 2  "small\n" 1`, `hole 100644 1  "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" 0`, `link 120777 1 a "" 0`, `same 100644 1  "small\n" 0`,
		}
		if info := a.Info(); info.Compression != c || !slices.Equal(got, want) {
			t.Errorf("%s: %+v\n%s", c, info, strings.Join(got, "\n"))
		}
	}
}

// Whatever the old archive says, the new one is that of the root.
func FuzzReuse(f *testing.F) {
	archives := seedArchives(f)
	for i := range archives {
		f.Add(i, uint16(0), []byte(nil))
		f.Add(i, uint16(100), []byte{1})
	}
	f.Fuzz(func(t *testing.T, which int, at uint16, change []byte) {
		old := bytes.Clone(archives[uint(which)%uint(len(archives))])
		dir := t.TempDir()
		root := filepath.Join(dir, "root")
		a, err := Open(bytes.NewReader(old))
		if err != nil {
			t.Fatal(err)
		}
		must(t, a.Unpack(t.Context(), root, UnpackOptions{Processors: 1}))
		for i, b := range change {
			old[(int(at)+i)%len(old)] ^= b
		}
		name, archive, tree := filepath.Join(dir, "old"), filepath.Join(dir, "new"), filepath.Join(dir, "tree")
		must(t, os.WriteFile(name, old, 0o600))
		p := Packer{Log: slog.New(slog.DiscardHandler)}
		must(t, p.Pack(t.Context(), root, archive, artifacts.PackOptions{From: name, Processors: 1 + which&1}))
		must(t, Unpack(t.Context(), archive, tree, UnpackOptions{}))
		differences, err := treediff.DiffSeconds(root, tree)
		if err != nil || len(differences) > 0 {
			t.Error(differences, err)
		}
	})
}

// Several generations of a root, each packed behind the archive of the one before:
// every one is that of its root, what is said to be unchanged is, and nothing else
// is in it. The first may be damaged.
func FuzzAppend(f *testing.F) {
	tree := bytes.Repeat([]byte("\x05\x00\x30a\x05\x10\x27b\x06\x40\x00c\x07\x00\x50d\x04\x00\x40e"), 3)
	f.Add(tree, []byte("\x00\x01\x02\x03"), uint16(0), []byte(nil), uint8(0))
	f.Add(tree, []byte("\x07\x0f\x14\x00\x21\x2a"), uint16(0), []byte(nil), uint8(0x0e))
	f.Add(tree, []byte("\x01\x02"), uint16(100), []byte{1}, uint8(3))
	f.Add(tree, []byte("\x00\x08"), uint16(98), []byte{0xff}, uint8(1))
	f.Fuzz(func(t *testing.T, data, edits []byte, at uint16, damage []byte, choice uint8) {
		dir := t.TempDir()
		made, root, old, record := filepath.Join(dir, "made"), filepath.Join(dir, "root"), filepath.Join(dir, "0"), filepath.Join(dir, "record")
		growTree(t, made, data)
		opts := artifacts.PackOptions{Compression: []string{"gzip", "zstd", "none"}[choice%3], BlockSize: minBlockSize, Processors: 1 + int(choice)%2}
		p := Packer{Log: slog.New(slog.DiscardHandler)}
		must(t, p.Pack(t.Context(), made, old, opts))
		must(t, Unpack(t.Context(), old, root, UnpackOptions{Record: record}))
		if len(damage) > 0 {
			content := read(t, old)
			for i, b := range damage {
				content[(int(at)+i)%len(content)] ^= b
			}
			must(t, os.WriteFile(old, content, 0o600))
		}
		opts.Layout = artifacts.LayoutAppend
		if choice&8 != 0 {
			opts.Record = record
		}
		for generation := range 3 {
			edits = editTree(t, root, edits)
			var ranges []artifacts.Range
			opts.From, opts.Unchanged = old, func(told []artifacts.Range) { ranges = told }
			next, tree := filepath.Join(dir, fmt.Sprint(generation+1)), filepath.Join(dir, fmt.Sprint("tree-", generation))
			must(t, p.Pack(t.Context(), root, next, opts))
			wantAppended(t, old, next, ranges)
			must(t, Unpack(t.Context(), next, tree, UnpackOptions{}))
			differences, err := treediff.DiffSeconds(root, tree)
			if err != nil || len(differences) > 0 {
				t.Error(differences, err)
			}
			old = next
		}
	})
}

// editTree changes as many files of a tree as a command has bits, and returns the
// other commands.
func editTree(t *testing.T, root string, commands []byte) (rest []byte) {
	var files []string
	must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if d.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	}))
	for n := 0; n < 2 && len(commands) > 0 && len(files) > 0; n++ {
		command := commands[0]
		commands = commands[1:]
		name := files[int(command>>3)%len(files)]
		switch command % 8 {
		case 0:
			must(t, os.Remove(name))
			files = slices.DeleteFunc(files, func(f string) bool { return f == name })
		case 1:
			must(t, os.WriteFile(name+"n", noise(uint64(command), int(command)<<6), 0o600))
		case 2:
			must(t, os.Truncate(name, int64(command)<<5))
		case 3:
			must(t, os.Rename(name, name+"m"))
			files = slices.DeleteFunc(files, func(f string) bool { return f == name })
		case 4:
			appendTo(t, name, text(uint64(command), 3000))
		default:
			restoringTimes(t, name, func(f *os.File) error {
				info, err := f.Stat()
				if err == nil && info.Size() > 0 {
					_, err = f.WriteAt([]byte{command}, info.Size()*int64(command%8-5)/3)
				}
				return err
			})
		}
	}
	return commands
}

// readAll reads everything that an archive has, to a bound.
func readAll(a *Archive) error {
	entries, total := 0, uint64(0)
	enough := errors.New("enough")
	return a.Walk(func(_ string, i *Inode) error {
		if entries++; entries > 1000 {
			return enough
		}
		if _, err := a.Xattrs(i); err != nil {
			return err
		}
		if total += i.Size; !i.isFile() || total > 1<<20 {
			return nil
		}
		return a.WriteTo(io.Discard, i)
	})
}

// Whatever an archive says, reading it ends, with an error or without.
func FuzzRead(f *testing.F) {
	for _, archive := range seedArchives(f) {
		f.Add(archive)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := Open(bytes.NewReader(data))
		if err != nil {
			return
		}
		readAll(a)
	})
}

// A damaged archive unpacks to something inside its directory, or to nothing.
func FuzzUnpack(f *testing.F) {
	archives := seedArchives(f)
	for i := range archives {
		f.Add(i, uint16(100), []byte{1})
	}
	f.Fuzz(func(t *testing.T, which int, at uint16, change []byte) {
		archive := bytes.Clone(archives[uint(which)%uint(len(archives))])
		for i, b := range change {
			archive[(int(at)+i)%len(archive)] ^= b
		}
		dir := t.TempDir()
		a, err := Open(bytes.NewReader(archive))
		if err != nil {
			return
		}
		limit := int64(1 << 20)
		err = a.Unpack(t.Context(), filepath.Join(dir, "tree"), UnpackOptions{Processors: 2, Allow: func(n int64) error {
			if limit -= n + 1000; limit < 0 {
				return errTooLong
			}
			return nil
		}})
		names, readErr := os.ReadDir(dir)
		if readErr != nil || len(names) > 1 || len(names) == 1 && (err != nil || names[0].Name() != "tree") {
			t.Errorf("left %v after %v (%v)", names, err, readErr)
		}
	})
}

// A tree made of the fuzzer's bytes comes back as it was.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("\x03\x10\x00abc"), uint8(0))
	f.Add(bytes.Repeat([]byte{9, 0xff, 0x3f, 0}, 50), uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, choice uint8) {
		root := filepath.Join(t.TempDir(), "root")
		growTree(t, root, data)
		opts := artifacts.PackOptions{Compression: []string{"gzip", "zstd", "none"}[choice%3], BlockSize: minBlockSize << (choice / 3 % 3), Processors: 1 + int(choice)%4}
		archive, tree := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "tree")
		if err := (Packer{Log: slog.New(slog.DiscardHandler)}).Pack(t.Context(), root, archive, opts); err != nil {
			t.Fatal(err)
		}
		if err := Unpack(t.Context(), archive, tree, UnpackOptions{}); err != nil {
			t.Fatal(err)
		}
		differences, err := treediff.DiffSeconds(root, tree)
		if err != nil || len(differences) > 0 {
			t.Error(differences, err)
		}
	})
}

// growTree makes files and directories of a stream of commands.
func growTree(t *testing.T, root string, data []byte) {
	must(t, os.Mkdir(root, 0o755))
	dir, last := root, ""
	for n := 0; len(data) >= 4 && n < 200; n++ {
		kind, size, fill := data[0], binary.LittleEndian.Uint16(data[1:]), data[3]
		data = data[4:]
		name := filepath.Join(dir, fmt.Sprintf("%0*d", 1+int(fill)%80, n))
		switch kind % 8 {
		case 0:
			must(t, os.Mkdir(name, 0o700|os.FileMode(fill)&0o77))
			if len(name) < 2000 {
				dir = name
			}
		case 1:
			must(t, os.Symlink(fmt.Sprint("to/", size), name))
		case 2:
			if last != "" {
				must(t, os.Link(last, name))
			}
		case 3:
			dir = root
		case 4:
			must(t, os.WriteFile(name, nil, 0o644))
			must(t, os.Truncate(name, int64(size)))
			last = name
		default:
			must(t, os.WriteFile(name, bytes.Repeat([]byte{fill, byte(size)}, int(size)/2), 0o644))
			last = name
		}
	}
}
