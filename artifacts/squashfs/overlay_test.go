package squashfs

import (
	"errors"
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

// layered is a source that is mounted instead of unpacked.
type layered struct {
	source
	upper string
}

func overlaid(t *testing.T, pack func(root, archive string)) layered {
	t.Helper()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"lower", "upper", "work", "root"} {
		must(t, os.Mkdir(in(name), 0o700))
	}
	l := layered{source{in("archive"), in("record"), in("root")}, in("upper")}
	pack(sourceRoot(t), l.archive)
	must(t, PrepareLower(l.archive, l.upper, nil, UnpackOptions{Record: l.record}))
	mountAt(t, "-o", "loop,ro", "-t", "squashfs", l.archive, in("lower"))
	mountAt(t, "-t", "overlay", "-o", "redirect_dir=off,metacopy=off,index=off,xino=on,lowerdir="+in("lower")+",upperdir="+l.upper+",workdir="+in("work"),
		"overlay", l.root)
	return l
}

func (l layered) options() artifacts.PackOptions {
	return artifacts.PackOptions{From: l.archive, Record: l.record, Upper: l.upper}
}

// change does to an overlay's root what users do, of each kind.
func (l layered) change(t *testing.T) {
	t.Helper()
	must(t, overwrite(l.in("small/003"), 5))
	must(t, overwrite(l.in("large/noise-2"), 200<<10))
	must(t, lengthen(l.in("small/004"), "more"))
	must(t, os.Chmod(l.in("large/3"), 0o600))
	must(t, os.Chown(l.in("small/deep"), 7, 8))
	must(t, unix.Setxattr(l.in("small/007"), "user.new", []byte("x"), 0))
	must(t, os.Remove(l.in("small/009")))
	must(t, os.Remove(l.in("large/noise-4")))
	must(t, os.RemoveAll(l.in("etc"))) // and made anew: it is opaque
	must(t, os.Mkdir(l.in("etc"), 0o755))
	must(t, os.WriteFile(l.in("etc/motd"), []byte("hello\n"), 0o600))
	must(t, os.Remove(l.in("small/010")))
	must(t, os.Mkdir(l.in("small/010"), 0o755))
	must(t, os.WriteFile(l.in("small/010/new"), noise(99, 70_000), 0o644))
	must(t, os.Rename(l.in("small/011"), l.in("moved")))
	must(t, os.Symlink("moved", l.in("link")))
	must(t, os.Chtimes(l.root, statOf(t, l.in("small")).ModTime(), statOf(t, l.in("small")).ModTime()))
}

func statOf(t *testing.T, name string) os.FileInfo {
	t.Helper()
	info, err := os.Stat(name)
	must(t, err)
	return info
}

// The new archive is what the merged root is, whichever tool made the old one,
// and the same as if everything had been read.
func TestOverlay(t *testing.T) {
	needTools(t)
	for name, pack := range map[string]func(root, archive string){
		"ours": packedWith(t, artifacts.PackOptions{}), "tails of large files": mksquashfs(t, "-always-use-fragments", "-Xcompression-level", "6"),
	} {
		t.Run(name, func(t *testing.T) {
			l := overlaid(t, pack)
			if got := l.changes(t, l.options()); len(got) > 0 {
				t.Errorf("untouched, %q", got)
			}
			l.change(t)
			archive, files, _ := l.repack(t, l.options())
			if files < 2<<20 {
				t.Errorf("%d bytes of files were taken over", files)
			}
			out := filepath.Join(t.TempDir(), "out")
			must(t, Unpack(t.Context(), archive, out, UnpackOptions{}))
			wantSame(t, l.root, out)
			opts := l.options()
			opts.Verify = true
			compared, _, _ := l.repack(t, opts)
			if name == "ours" && !slices.Equal(read(t, archive), read(t, compared)) { // tails of large files are not compared
				t.Error("believed and compared, the archives differ")
			}
		})
	}
}

// What was deleted or replaced is not in the archive any more.
func TestOverlayLeaksNothing(t *testing.T) {
	needTools(t)
	l := overlaid(t, packedWith(t, artifacts.PackOptions{}))
	must(t, os.Remove(l.in("small/deep/003")))
	must(t, os.WriteFile(l.in("small/deep/004"), []byte("other"), 0o644))
	archive, _, _ := l.repack(t, l.options())
	content := string(read(t, archive))
	for seed, gone := range map[uint64]bool{3: true, 4: true, 5: false} {
		// Noise is stored raw, unless its fragment has text in it, too.
		if there := strings.Contains(content, string(noise(seed, 5000))); there && gone {
			t.Errorf("deep/%03d is still there", seed)
		}
	}
	out := filepath.Join(t.TempDir(), "out")
	must(t, Unpack(t.Context(), archive, out, UnpackOptions{}))
	wantSame(t, l.root, out)
}

// The report is the same whether the upper directory is believed, or all is read.
func TestOverlayChanges(t *testing.T) {
	needTools(t)
	l := overlaid(t, packedWith(t, artifacts.PackOptions{}))
	l.change(t)
	believed, compared := l.changes(t, l.options()), l.changes(t, artifacts.PackOptions{})
	if !slices.Equal(believed, compared) {
		t.Errorf("believed\n%s\ncompared\n%s", strings.Join(believed, "\n"), strings.Join(compared, "\n"))
	}
	for _, want := range []string{`removed file "small/011" 2067`, `added file "moved" 2067`, `removed file "large/noise-4" 262144`} {
		if !slices.Contains(believed, want) {
			t.Errorf("missing %s in\n%s", want, strings.Join(believed, "\n"))
		}
	}
}

// The merged root tells lies about hard links that are made after copying up;
// copying up one name of a file parts it from the others.
func TestOverlayHardLinks(t *testing.T) {
	needTools(t)
	l := overlaid(t, packedWith(t, artifacts.PackOptions{}))
	must(t, os.Link(l.in("small/020"), l.in("small/020-new")))
	must(t, overwrite(l.in("large/1"), 7)) // large/1-again stays what it was
	archive, _, _ := l.repack(t, l.options())
	out := filepath.Join(t.TempDir(), "out")
	must(t, Unpack(t.Context(), archive, out, UnpackOptions{}))
	same := func(a, b string) bool {
		return os.SameFile(statOf(t, filepath.Join(out, a)), statOf(t, filepath.Join(out, b)))
	}
	if !same("small/020", "small/020-new") {
		t.Error("a new name of a file has become another file")
	}
	if !same("small/001", "small/001-again") || !same("issue", "etc/motd") {
		t.Error("names of an untouched file are different files")
	}
	if same("large/1", "large/1-again") || slices.Equal(read(t, filepath.Join(out, "large/1")), read(t, filepath.Join(out, "large/1-again"))) {
		t.Error("what was changed under one name of a file is changed under the other")
	}
	for _, name := range []string{"small/020", "large/1", "large/1-again", "issue"} {
		if !slices.Equal(read(t, filepath.Join(out, name)), read(t, l.in(name))) {
			t.Errorf("%s: other content", name)
		}
	}
}

// An archive that has been touched since is compared.
func TestOverlayOfTouchedArchive(t *testing.T) {
	needTools(t)
	l := overlaid(t, packedWith(t, artifacts.PackOptions{}))
	must(t, os.Chmod(l.archive, 0o600))
	archive, _, _ := l.repack(t, l.options())
	compared, _, _ := l.repack(t, artifacts.PackOptions{})
	if !slices.Equal(read(t, archive), read(t, compared)) {
		t.Error("the archives differ")
	}
}

func TestPrepareLowerRefuses(t *testing.T) {
	needTools(t)
	for name, hostile := range map[string]func(root string) error{
		"a whiteout": func(root string) error { return unix.Mknod(filepath.Join(root, "gone"), unix.S_IFCHR, 0) },
		"an attribute": func(root string) error {
			return unix.Setxattr(filepath.Join(root, "etc"), "trusted.overlay.opaque", []byte("y"), 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			root, archive := makeRoot(t), filepath.Join(t.TempDir(), "archive")
			must(t, hostile(root))
			packedWith(t, artifacts.PackOptions{})(root, archive)
			record := archive + ".record"
			err := PrepareLower(archive, t.TempDir(), nil, UnpackOptions{Record: record})
			if !errors.Is(err, ErrNotLower) {
				t.Errorf("error %v", err)
			}
			if _, err := os.Lstat(record); err == nil {
				t.Error("there is a record")
			}
		})
	}
	t.Run("too much", func(t *testing.T) {
		archive := filepath.Join(t.TempDir(), "archive")
		packedWith(t, artifacts.PackOptions{})(makeRoot(t), archive)
		enough := errors.New("enough")
		err := PrepareLower(archive, t.TempDir(), nil, UnpackOptions{Record: archive + ".record", Allow: func(int64) error { return enough }})
		if !errors.Is(err, enough) {
			t.Errorf("error %v", err)
		}
	})
}

// Whatever is done to a name shows in the report as what it is, whether the upper
// directory is believed or all is read, and the archive holds the root as it is.
func TestOverlayOfEachChange(t *testing.T) {
	needTools(t)
	l := overlaid(t, packedWith(t, artifacts.PackOptions{}))
	in := l.in
	write := func(name, content string) error { return os.WriteFile(in(name), []byte(content), 0o644) }
	var removedDeep []string
	for i := range 20 {
		removedDeep = append(removedDeep, fmt.Sprintf(`removed file "small/deep/%03d" 5000`, i))
	}
	was := []string{}
	for _, step := range []struct {
		name   string
		change func() error
		want   []string // besides what was
		not    []string // any more
	}{
		{"nothing", func() error { return nil }, nil, nil},
		{"mode alone", func() error { return os.Chmod(in("small/001"), 0o600) }, []string{
			`changed file "small/001" 1097 was 1097: mode`}, nil},
		{"owner alone", func() error { return os.Chown(in("small/002"), 7, 8) }, []string{
			`changed file "small/002" 1194 was 1194: owner`}, nil},
		{"attribute alone", func() error { return unix.Setxattr(in("small/003"), "user.new", []byte("x"), 0) }, []string{
			`changed file "small/003" 1291 was 1291: xattr`}, nil},
		{"attribute of a directory", func() error { return unix.Setxattr(in("small"), "user.new", []byte("x"), 0) }, []string{
			`changed directory "small" 0 was 0: xattr`}, nil},
		{"opened for writing", func() error { return errors.Join(overwrite(in("small/004"), 7), overwrite(in("small/004"), 7)) }, nil, nil},
		{"a file renamed", func() error { return os.Rename(in("small/005"), in("small/005-new")) }, []string{
			`removed file "small/005" 1485`, `added file "small/005-new" 1485`}, nil},
		{"and back", func() error { return os.Rename(in("small/005-new"), in("small/005")) }, nil, []string{
			`removed file "small/005" 1485`, `added file "small/005-new" 1485`}},
		{"removed and written again", func() error { return errors.Join(os.Remove(in("small/006")), write("small/006", "new")) }, []string{
			`changed file "small/006" 3 was 1582: content mtime`}, nil},
		{"a hard link after copying up", func() error {
			return errors.Join(lengthen(in("small/007"), "more"), os.Link(in("small/007"), in("linked")))
		}, []string{
			`changed file "small/007" 1683 was 1679: content`, `added file "linked" 1683`}, nil},
		{"a directory renamed", func() error {
			if err := os.Rename(in("small/deep"), in("moved")); !errors.Is(err, unix.EXDEV) {
				return fmt.Errorf("it was renamed: %v", err)
			}
			return nil
		}, nil, nil},
		{"a directory removed", func() error { return os.RemoveAll(in("small/deep")) },
			append([]string{`removed directory "small/deep" 0`}, removedDeep...), nil},
		{"and made again", func() error {
			return errors.Join(os.Mkdir(in("small/deep"), 0o755), write("small/deep/003", "new"))
		}, []string{`changed file "small/deep/003" 3 was 5000: content mtime`},
			[]string{`removed directory "small/deep" 0`, `removed file "small/deep/003" 5000`}},
		{"a directory in one that was made again", func() error {
			return errors.Join(os.Mkdir(in("small/deep/below"), 0o755), write("small/deep/below/x", "x"))
		}, []string{`added directory "small/deep/below" 0`, `added file "small/deep/below/x" 1`}, nil},
		{"a directory replaced by a file", func() error { return errors.Join(os.RemoveAll(in("etc")), write("etc", "file")) }, []string{
			`changed file "etc" 4 was 0: type`, `removed file "etc/motd" `}, nil},
		{"a new directory renamed over one that was removed", func() error {
			return errors.Join(os.Mkdir(in("made"), 0o755), write("made/x", "y"), os.RemoveAll(in("large")), os.Rename(in("made"), in("large")))
		}, []string{`added file "large/x" 1`, `removed file "large/7" 314200`, `removed file "large/noise-0" 262144`}, nil},
		{"a file replaced by a directory", func() error {
			return errors.Join(os.Remove(in("small/008")), os.Mkdir(in("small/008"), 0o755), write("small/008/x", "z"))
		}, []string{`changed directory "small/008" 0 was 1776: type`, `added file "small/008/x" 1`}, nil},
	} {
		must(t, step.change())
		believed, compared := l.changes(t, l.options()), l.changes(t, artifacts.PackOptions{})
		if !slices.Equal(believed, compared) {
			t.Errorf("%s: believed\n%s\ncompared\n%s", step.name, strings.Join(believed, "\n"), strings.Join(compared, "\n"))
		}
		was = append(slices.DeleteFunc(was, func(line string) bool { return slices.Contains(step.not, line) }), step.want...)
		for _, want := range was {
			if !slices.ContainsFunc(believed, func(line string) bool { return strings.HasPrefix(line, want) }) {
				t.Errorf("%s: no %s in\n%s", step.name, want, strings.Join(believed, "\n"))
			}
		}
		for _, not := range step.not {
			if slices.Contains(believed, not) {
				t.Errorf("%s: still %s", step.name, not)
			}
		}
		archive, _, _ := l.repack(t, l.options())
		wantUnpacked(t, l.root, archive)
	}
	t.Logf("in the end:\n%s", strings.Join(l.changes(t, l.options()), "\n"))
}

// What users set of attributes that overlays obey is no more than named: on the
// next root, an overlay on this archive, they would hide files.
func TestOverlayAttributesAreNotPacked(t *testing.T) {
	needTools(t)
	l := overlaid(t, packedWith(t, artifacts.PackOptions{}))
	name := "trusted.overlay.opaque"
	if err := unix.Setxattr(l.in("small"), name, []byte("y"), 0); errors.Is(err, unix.EOPNOTSUPP) {
		t.Skip("this kernel does not let users of an overlay set them (before Linux 6.7)")
	} else if err != nil {
		t.Fatal(err)
	}
	if names, err := os.ReadDir(l.in("small")); len(names) < 100 || err != nil {
		t.Fatalf("%d names are left of the directory, %v", len(names), err)
	}
	for _, opts := range []artifacts.PackOptions{l.options(), {Upper: l.upper}} {
		if got := l.changes(t, opts); !slices.Equal(got, []string{`changed directory "small" 0 was 0:  lost: ` + name}) {
			t.Errorf("changes: %q", got)
		}
		archive, _, _ := l.repack(t, opts)
		must(t, PrepareLower(archive, t.TempDir(), nil, UnpackOptions{Record: archive + ".record"})) // which refuses any
	}
}

// An archive that was written to shows through the overlay; there is no root left
// to pack or to compare.
func TestOverlayOfArchiveWrittenTo(t *testing.T) {
	needTools(t)
	l := overlaid(t, packedWith(t, artifacts.PackOptions{}))
	must(t, CheckLower(l.archive, l.record))
	scribble := func(at int64) {
		f, err := os.OpenFile(l.archive, os.O_RDWR, 0)
		must(t, err)
		_, err = f.WriteAt([]byte("x"), at)
		must(t, errors.Join(err, f.Close()))
	}
	scribble(50_000)
	opts := l.options()
	quiet := slog.New(slog.DiscardHandler)
	for _, compression := range []string{"", "zstd"} {
		opts.Compression = compression
		if err := (Packer{Log: quiet}).Pack(t.Context(), l.root, filepath.Join(t.TempDir(), "a"), opts); !errors.Is(err, ErrLowerChanged) {
			t.Errorf("packed with compression %q: %v", compression, err)
		}
	}
	if err := Compare(t.Context(), l.root, opts, quiet, func(artifacts.Change) error { return nil }); !errors.Is(err, ErrLowerChanged) {
		t.Errorf("compared: %v", err)
	}
	if err := CheckLower(l.archive, l.record); !errors.Is(err, ErrLowerChanged) {
		t.Errorf("checked: %v", err)
	}
	scribble(0)
	if err := (Packer{Log: quiet}).Pack(t.Context(), l.root, filepath.Join(t.TempDir(), "a"), opts); !errors.Is(err, ErrFormat) {
		t.Errorf("packed with no archive below: %v", err)
	}
}

// Another archive than the one below is compared with, and nothing of it believed.
func TestOverlayWithAnotherSource(t *testing.T) {
	needTools(t)
	l := overlaid(t, packedWith(t, artifacts.PackOptions{}))
	must(t, overwrite(l.in("small/003"), 5))
	must(t, os.Link(l.in("small/003"), l.in("small/003-new")))
	other := filepath.Join(t.TempDir(), "other")
	must(t, Packer{Log: slog.New(slog.DiscardHandler)}.Pack(t.Context(), l.root, other, l.options()))
	must(t, overwrite(l.in("small/004"), 5))
	opts, archive := l.options(), filepath.Join(t.TempDir(), "archive")
	opts.From = other
	must(t, Packer{Log: slog.New(slog.DiscardHandler)}.Pack(t.Context(), l.root, archive, opts))
	wantUnpacked(t, l.root, archive)
	l.archive = other
	if got := l.changes(t, opts); !slices.Equal(got, []string{`changed file "small/004" 1388 was 1388: content`}) {
		t.Errorf("changes: %q", got)
	}
}

// A directory that somebody has removed since is in no upper layer.
func TestUpperOfWhatIsGone(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
	u, err := openUpper(dir)
	must(t, err)
	defer u.close()
	if below, err := u.enter("file"); below != noUpper || err != nil {
		t.Errorf("%+v, %v", below, err)
	}
}
