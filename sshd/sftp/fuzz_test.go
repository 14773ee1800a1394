package sftp

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzServe feeds whole sessions to a server in a jail. The jail is a small
// memory file system of its own, for a session may well fill its disk.
func FuzzServe(f *testing.F) {
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
	j := enter(f, dir)
	for _, seed := range fuzzSessions() {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		fillJail(t, dir)
		var out bytes.Buffer
		err := Serve(t.Context(), stdio{bytes.NewReader(stream), &out}, j, Options{Home: "/d"})
		if err != nil {
			return // and the goroutine that sends may still be at it
		}
		if requests, replies := countPackets(stream), countReplies(t, out.Bytes()); replies != requests {
			t.Errorf("%d requests, %d replies", requests, replies)
		}
	})
}

// fuzzSessions are valid sessions: the conversation with handles guessed, for
// a session that is replayed has no client to learn them.
func fuzzSessions() []string {
	all := hello
	var seeds []string
	for _, step := range conversation {
		fields := make([]any, len(step.fields))
		for i, field := range step.fields {
			if field, isRef := field.(ref); isRef {
				fields[i] = raw("\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00" + string(rune('\x01'+len(field)%2)))
				continue
			}
			fields[i] = step.fields[i]
		}
		asked := one(step.kind, fields...)
		opened := one(fxpOpen, "/f", openRead|openWrite, attrs{}) + one(fxpOpendir, "/d")
		seeds = append(seeds, hello+opened+asked)
		all += asked
	}
	return append(seeds, all, "", hello+"\xff\xff\xff\xff")
}

// fillJail makes the tree that each session begins with.
func fillJail(t *testing.T, dir string) {
	t.Helper()
	old, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	hidden, err := filepath.Glob(filepath.Join(dir, ".?*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(old, hidden...) {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "d", "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/f", filepath.Join(dir, "d", "link")); err != nil {
		t.Fatal(err)
	}
}

// countPackets is how many complete packets a stream begins with.
func countPackets(stream []byte) int {
	n := 0
	eachPacket(stream, func(byte) { n++ })
	return n
}

// countReplies checks the type of each reply too.
func countReplies(t *testing.T, stream []byte) int {
	t.Helper()
	n := 0
	eachPacket(stream, func(kind byte) {
		switch kind {
		case fxpVersion, fxpStatus, fxpHandle, fxpData, fxpName, fxpAttrs, fxpExtendedReply:
			n++
		default:
			t.Errorf("reply %d: packet type %d", n, kind)
		}
	})
	return n
}

func eachPacket(stream []byte, do func(kind byte)) {
	r := bufio.NewReader(bytes.NewReader(stream))
	for {
		p, err := readPacket(r)
		if err != nil {
			return
		}
		d := decoder{rest: p.b}
		do(d.u8())
		p.free()
	}
}
