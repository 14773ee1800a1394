package scp

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzSink lets a client say anything to a sink in a jail. The jail is a small
// memory file system of its own, for a client may well fill its disk.
func FuzzSink(f *testing.F) {
	dir := fuzzJail(f)
	j := enter(f, filepath.Join(dir, "jail"))
	for _, c := range conversations {
		f.Add(strings.HasPrefix(c.command, "scp -r"), strings.Contains(c.command, "-p"), []byte(c.says))
	}
	f.Fuzz(func(t *testing.T, recursive, preserve bool, says []byte) {
		refill(t, dir)
		var out bytes.Buffer
		c := Command{Sink: true, Recursive: recursive, Preserve: preserve, paths: []word{{text: "into"}}}
		exit := c.Run(stdio{bytes.NewReader(says), &out}, j, Options{Home: "/", Directory: "/", Umask: testUmask})
		if failed := bytes.Contains(out.Bytes(), []byte("\x01scp: ")); failed && exit == 0 {
			t.Errorf("reported %q, but exit status 0", out.Bytes())
		}
		for _, outside := range []string{dir, filepath.Join(dir, "jail")} {
			if entries, err := os.ReadDir(outside); err != nil || len(entries) != 2 {
				t.Errorf("%s holds %v (%v): something was written beside the target", outside, entries, err)
			}
		}
	})
}

func fuzzJail(f *testing.F) string {
	if os.Geteuid() != 0 {
		f.Skip("needs root for a jail: without one the input would work on the real files")
	}
	dir := f.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NODEV, "size=4m,nr_inodes=1000"); err != nil {
		f.Skipf("needs to mount a tmpfs: %v", err)
	}
	f.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			f.Error(err)
		}
	})
	if err := os.MkdirAll(filepath.Join(dir, "jail"), 0o755); err != nil {
		f.Fatal(err)
	}
	return dir
}

// refill makes the tree that each conversation begins with.
func refill(t *testing.T, dir string) {
	t.Helper()
	into := filepath.Join(dir, "jail", "into")
	if err := os.RemoveAll(into); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(into, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"file", "jail/beside", "jail/into/file"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("text"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, link := range [][2]string{{"file", "link"}, {"nowhere", "dangling"}, {"/into/dir", "dirlink"}} {
		if err := os.Symlink(link[0], filepath.Join(into, link[1])); err != nil {
			t.Fatal(err)
		}
	}
}

// FuzzParse: what is understood has no meaning for a shell but quotes, patterns
// and tildes, so its words without those are in the text.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"scp -t .", `scp -f 'a b' "c d" e\ f ~x/[!a]*`, "scp -rp -t -- x", "scp -f {a,b}", "/bin/scp -f ~/a;b", "scp -t \"a\\\"\""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, ok := Parse(text)
		if !ok {
			return
		}
		if strings.ContainsAny(text, "\n\x00") {
			t.Errorf("%q: a line of a script was understood", text)
		}
		if !strings.ContainsAny(text, `'"\`) && strings.ContainsAny(text, reserved) {
			t.Errorf("%q: has characters that are for a shell", text)
		}
		for _, w := range c.paths {
			if _, err := w.components(); err != nil {
				t.Errorf("%q: %v", text, err)
			}
		}
	})
}
