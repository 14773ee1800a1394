package squashfs

import (
	"errors"
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
	must(t, PrepareLower(l.archive, l.upper, UnpackOptions{Record: l.record}))
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
			err := PrepareLower(archive, t.TempDir(), UnpackOptions{Record: record})
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
		err := PrepareLower(archive, t.TempDir(), UnpackOptions{Record: archive + ".record", Allow: func(int64) error { return enough }})
		if !errors.Is(err, enough) {
			t.Errorf("error %v", err)
		}
	})
}
