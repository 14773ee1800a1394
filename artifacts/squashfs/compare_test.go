package squashfs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"buildenv/artifacts"
)

// changes are those of a source's root, a line each.
func (s source) changes(t *testing.T, opts artifacts.PackOptions) []string {
	t.Helper()
	var lines []string
	opts.From = s.archive
	must(t, Compare(t.Context(), s.root, opts, slog.New(slog.DiscardHandler), func(c artifacts.Change) error {
		lines = append(lines, describeChange(c))
		return nil
	}))
	return lines
}

func describeChange(c artifacts.Change) string {
	line := fmt.Sprintf("%s %s %q %d", c.Kind, c.Type, c.Path, c.Size)
	if c.Kind == artifacts.Changed {
		line += fmt.Sprintf(" was %d: %s", c.Was, strings.Join(c.What, " "))
	}
	if len(c.Lost) > 0 {
		line += " lost: " + strings.Join(c.Lost, " ")
	}
	return line
}

func TestCompare(t *testing.T) {
	needTools(t)
	s := unpacked(t, packedWith(t, artifacts.PackOptions{}))
	long := time.Unix(1_000_000_000, 0)
	for _, step := range []struct {
		name   string
		change func() error
		want   []string
	}{
		{"nothing", func() error { return nil }, nil},
		{"content, same size and time", func() error { return overwrite(s.in("small/003"), 5) },
			[]string{`changed file "small/003" 1291 was 1291: content`}},
		{"content of a large file", func() error { return overwrite(s.in("large/noise-2"), 200<<10) },
			[]string{`changed file "large/noise-2" 262144 was 262144: content`}},
		{"content of a file with two names", func() error { return overwrite(s.in("large/1"), 1000) },
			[]string{`changed file "large/1" 308200 was 308200: content`, `changed file "large/1-again" 308200 was 308200: content`}},
		{"size", func() error { return lengthen(s.in("small/004"), "more") },
			[]string{`changed file "small/004" 1392 was 1388: content`}},
		{"mode", func() error { return os.Chmod(s.in("small/005"), 0o4755) },
			[]string{`changed file "small/005" 1485 was 1485: mode`}},
		{"owner of a directory", func() error { return os.Chown(s.in("small/deep"), 7, 8) },
			[]string{`changed directory "small/deep" 0 was 0: owner`}},
		{"time", func() error { return os.Chtimes(s.in("small/006"), long, long) },
			[]string{`changed file "small/006" 1582 was 1582: mtime`}},
		{"time of a directory", func() error { return os.Chtimes(s.in("small"), long, long) }, nil},
		{"attribute", func() error { return unix.Setxattr(s.in("small/007"), "user.new", []byte("x"), 0) },
			[]string{`changed file "small/007" 1679 was 1679: xattr`}},
		{"access control list", func() error { return unix.Setxattr(s.in("small/008"), "system.posix_acl_access", acl, 0) },
			[]string{`changed file "small/008" 1776 was 1776: mode lost: system.posix_acl_access`}},
		{"removed", func() error { return os.Remove(s.in("small/009")) }, []string{`removed file "small/009" 1873`}},
		{"removed with what is in it", func() error { return os.RemoveAll(s.in("large")) }, nil},
		{"put back as a file", func() error { return os.WriteFile(s.in("large"), []byte("12345"), 0o644) }, nil},
		{"added", func() error { return errors.Join(os.MkdirAll(s.in("a/b"), 0o755), os.Symlink("x", s.in("a/b/l\xff"))) },
			[]string{`added directory "a" 0`, `added directory "a/b" 0`, `added symlink "a/b/l\xff" 0`}},
		{"file to directory", func() error {
			return errors.Join(os.Remove(s.in("small/010")), os.Mkdir(s.in("small/010"), 0o755), os.WriteFile(s.in("small/010/x"), nil, 0o644))
		}, []string{`changed directory "small/010" 0 was 1970: type`, `added file "small/010/x" 0`}},
	} {
		must(t, step.change())
		epoch := int64(1_000_000_000)
		if step.name == "nothing" {
			if got := s.changes(t, artifacts.PackOptions{Epoch: &epoch}); len(got) > 0 {
				t.Errorf("with times that are clamped: %q", got)
			}
		}
		for _, opts := range []artifacts.PackOptions{{}, {Record: s.record}, {Record: s.record, Verify: true, Processors: 1}} {
			got := s.changes(t, opts)
			for _, line := range step.want {
				if !slices.Contains(got, line) {
					t.Errorf("%s: record %v: missing %s", step.name, opts.Record != "", line)
				}
			}
			if step.name == "nothing" && len(got) > 0 {
				t.Errorf("%s: %q", step.name, got)
			}
		}
	}
	got := strings.Join(s.changes(t, artifacts.PackOptions{}), "\n")
	want := `added directory "a" 0
added directory "a/b" 0
added symlink "a/b/l\xff" 0
changed file "large" 5 was 0: type
removed file "large/0" 307200`
	if !strings.HasPrefix(got, want) {
		t.Errorf("got\n%s\nwant it to begin\n%s", got, want)
	}
	if n := strings.Count(got, "\n") + 1; n != 33 { // nothing but the above
		t.Errorf("%d changes:\n%s", n, got)
	}
}

// acl is user::rwx, user:7:r--, group::r--, mask::r--, other::--- (linux/posix_acl_xattr.h).
var acl = []byte("\x02\x00\x00\x00" +
	"\x01\x00\x07\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\x07\x00\x00\x00" + "\x04\x00\x04\x00\xff\xff\xff\xff" +
	"\x10\x00\x04\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff")

// overwrite changes a byte of a file and keeps its time.
func overwrite(name string, at int64) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		return err
	}
	if _, err := f.WriteAt([]byte{b[0] ^ 1}, at); err != nil {
		return err
	}
	return os.Chtimes(name, info.ModTime(), info.ModTime())
}

func lengthen(name, text string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close(), os.Chtimes(name, info.ModTime(), info.ModTime()))
}

// What is under a mount cannot be compared; it is not said to be removed.
func TestCompareMounted(t *testing.T) {
	needTools(t)
	s := unpacked(t, packedWith(t, artifacts.PackOptions{}))
	mountAt(t, "-t", "tmpfs", "none", s.in("small"))
	if got := s.changes(t, artifacts.PackOptions{}); !slices.Equal(got, []string{`hidden directory "small" 0`}) {
		t.Errorf("got %q", got)
	}
}

func TestCompareWithToolsArchive(t *testing.T) {
	needTools(t)
	for _, options := range [][]string{nil, {"-no-fragments"}, {"-always-use-fragments", "-b", "4096"}, {"-comp", "xz"}} {
		s := unpacked(t, mksquashfs(t, options...))
		if got := s.changes(t, artifacts.PackOptions{}); len(got) > 0 {
			t.Errorf("%q: %q", options, got)
		}
	}
}

func TestCompareEnds(t *testing.T) {
	needTools(t)
	s := unpacked(t, packedWith(t, artifacts.PackOptions{}))
	must(t, os.RemoveAll(s.in("small")))
	quiet := slog.New(slog.DiscardHandler)
	stop := errors.New("enough")
	err := Compare(t.Context(), s.root, artifacts.PackOptions{From: s.archive}, quiet, func(artifacts.Change) error { return stop })
	if !errors.Is(err, stop) {
		t.Errorf("visit's error: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = Compare(ctx, s.root, artifacts.PackOptions{From: s.archive}, quiet, func(artifacts.Change) error {
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	notOne := filepath.Join(t.TempDir(), "no-archive")
	must(t, os.WriteFile(notOne, text(1, 10000), 0o644))
	err = Compare(t.Context(), s.root, artifacts.PackOptions{From: notOne}, quiet, func(artifacts.Change) error { return nil })
	if !errors.Is(err, ErrFormat) {
		t.Errorf("no archive: %v", err)
	}
}
