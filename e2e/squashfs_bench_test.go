package e2e

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// squashfsRounds is how often each side works, in turn.
const squashfsRounds = 3

// squashfsCase is work that both can do.
type squashfsCase struct {
	name        string
	ours, tools []string
	rounds      int
}

// BenchmarkSquashfs: the Debian root packed, unpacked and, after a change of one
// per cent of its files, packed again, by us and by squashfs-tools in turn. What
// is made goes to memory: a disk is not to be measured. The root is on a disk,
// which has been read before, because of files in memory nothing is believed.
func BenchmarkSquashfs(b *testing.B) {
	w := squashfsWork(b)
	pack := func(name string, ours, tools string) squashfsCase {
		return squashfsCase{"pack-" + name,
			append([]string{w.binary, "squashfs", "pack", w.root, w.out("ours")}, strings.Fields(ours)...),
			append([]string{"mksquashfs", w.root, w.out("tools"), "-quiet", "-no-progress", "-noappend"}, strings.Fields(tools)...), squashfsRounds}
	}
	for _, c := range []squashfsCase{
		pack("gzip-6", "--level 6", "-Xcompression-level 6"),
		pack("gzip-9", "--level 9", "-Xcompression-level 9"),
		pack("zstd-3", "--compression zstd --level 3", "-comp zstd -Xcompression-level 3"),
		w.again("again-gzip-default", "gzip", ""),
		w.again("again-gzip-6", "gzip", "-Xcompression-level 6"),
		w.again("again-zstd-3", "zstd", "-comp zstd -Xcompression-level 3"),
		{"unpack-gzip", []string{w.binary, "squashfs", "unpack", w.in("gzip.sqsh"), w.out("ours")},
			[]string{"unsquashfs", "-quiet", "-no-progress", "-dest", w.out("tools"), w.in("gzip.sqsh")}, squashfsRounds},
		{"unpack-zstd", []string{w.binary, "squashfs", "unpack", w.in("zstd.sqsh"), w.out("ours")},
			[]string{"unsquashfs", "-quiet", "-no-progress", "-dest", w.out("tools"), w.in("zstd.sqsh")}, squashfsRounds},
		w.fetch(b, "fetch-gzip-50", "gzip.sqsh", 50<<20),
		w.fetch(b, "fetch-zstd-50", "zstd.sqsh", 50<<20),
		w.fetch(b, "fetch-gzip-local", "gzip.sqsh", 0),
	} {
		b.Run(c.name, func(b *testing.B) { w.compare(b, c) })
	}
}

// BenchmarkSquashfsGrowth: roots of one, four and sixteen copies of the Debian
// root, of which no two files have the same content, packed again after the same
// change (one per cent of the files of one copy) and after one of one per cent.
func BenchmarkSquashfsGrowth(b *testing.B) {
	for _, copies := range []int{1, 4, 16} {
		b.Run(fmt.Sprintf("x%d", copies), func(b *testing.B) { growth(b, copies) })
	}
}

func growth(b *testing.B, copies int) {
	w := squashfsPlace(b)
	for n := range copies {
		into := w.in(fmt.Sprintf("made/%d", n))
		w.must(b, "mkdir", "-p", w.in("made"))
		w.must(b, "cp", "-a", w.root, into)
		eachFile(b, into, func(path string, _ int) error { return prefix(path, fmt.Sprintln("copy", n)) })
	}
	w.must(b, w.binary, "squashfs", "pack", "--level", "6", w.in("made"), w.in("base.sqsh"))
	w.must(b, "rm", "-r", w.in("made"))
	w.must(b, w.binary, "squashfs", "unpack", "--record", w.in("base.record"), w.in("base.sqsh"), w.in("base"))
	again := w.again("same-change", "base", "-Xcompression-level 6")
	again.rounds = max(1, squashfsRounds/copies)
	changeOnePerCent(b, w.in("base/0"))
	b.Run(again.name, func(b *testing.B) { w.compare(b, again) })
	for n := 1; n < copies; n++ {
		changeOnePerCent(b, w.in(fmt.Sprintf("base/%d", n)))
	}
	again.name = "one-per-cent"
	b.Run(again.name, func(b *testing.B) { w.compare(b, again) })
}

// squashfsFolder is what the benchmark works in.
type squashfsFolder struct{ binary, root, disk, memory string }

func (w squashfsFolder) in(name string) string  { return filepath.Join(w.disk, name) }
func (w squashfsFolder) out(name string) string { return filepath.Join(w.memory, name) }

// again is the packing of a root that came of an archive, both of the same name.
func (w squashfsFolder) again(name, base, tools string) squashfsCase {
	return squashfsCase{name,
		[]string{w.binary, "squashfs", "pack", w.in(base), w.out("ours"), "--from", w.in(base + ".sqsh"), "--record", w.in(base + ".record")},
		append([]string{"mksquashfs", w.in(base), w.out("tools"), "-quiet", "-no-progress", "-noappend"}, strings.Fields(tools)...), squashfsRounds}
}

// squashfsPlace finds the root and makes folders on a disk and in memory.
func squashfsPlace(b *testing.B) squashfsFolder {
	b.Helper()
	debian := debianRoot()
	if debian == "" || os.Geteuid() != 0 {
		b.Skip("needs root and the Debian image root; try: tools/debian-root")
	}
	if _, err := exec.LookPath("mksquashfs"); err != nil {
		b.Skipf("%v; try: tools/setup e2e", err)
	}
	binary, err := builtBinary()
	if err != nil {
		b.Fatal(err)
	}
	memory, err := os.MkdirTemp("/dev/shm", "buildenv-bench-")
	if err != nil {
		b.Skipf("needs a file system in memory: %v", err)
	}
	b.Cleanup(func() { os.RemoveAll(memory) })
	return squashfsFolder{binary: binary, root: debian, disk: b.TempDir(), memory: memory}
}

// squashfsWork makes what is packed again: for each compression an archive by
// mksquashfs, and the changed root that came of it.
func squashfsWork(b *testing.B) squashfsFolder {
	b.Helper()
	w := squashfsPlace(b)
	for base, options := range map[string]string{"gzip": "-Xcompression-level 6", "zstd": "-comp zstd -Xcompression-level 3"} {
		w.must(b, append([]string{"mksquashfs", w.root, w.in(base + ".sqsh"), "-quiet", "-no-progress"}, strings.Fields(options)...)...)
		w.must(b, w.binary, "squashfs", "unpack", "--record", w.in(base+".record"), w.in(base+".sqsh"), w.in(base))
		changeOnePerCent(b, w.in(base))
	}
	return w
}

// fetch is an archive fetched from a server that gives so many bytes a second, on
// all connections together, its digest compared, and unpacked.
func (w squashfsFolder) fetch(b *testing.B, name, archive string, rate int64) squashfsCase {
	b.Helper()
	sum := md5Of(b, w.in(archive))
	limit := &limiter{rate: rate}
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		out.Header().Set("ETag", `"`+sum+`"`)
		http.ServeFile(limitedWriter{out, limit}, r, w.in(archive))
	}))
	b.Cleanup(server.Close)
	const tools = `mkdir "$1" && curl -sf -o "$1/archive" "$2" && echo "$3  $1/archive" | md5sum -c --quiet && exec unsquashfs -quiet -no-progress -dest "$1/root" "$1/archive"`
	return squashfsCase{name,
		[]string{"env", "DOWNLOAD_MD5SUM=" + sum, w.binary, "prepare", w.out("ours"), server.URL},
		[]string{"sh", "-c", tools, "sh", w.out("tools"), server.URL, sum}, squashfsRounds}
}

// md5Of reads a file without having it in memory; see prefix.
func md5Of(b *testing.B, name string) string {
	b.Helper()
	f, err := os.Open(name)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	sum := md5.New()
	if _, err := io.Copy(sum, f); err != nil {
		b.Fatal(err)
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// limiter spreads bytes over time.
type limiter struct {
	rate int64 // bytes a second; 0: no limit

	mu   sync.Mutex // protects the following
	next time.Time  // when there may be more
}

// maxLate is how much of the time that it has slept too long it makes good.
const maxLate = 100 * time.Millisecond

func (l *limiter) wait(n int) {
	if l.rate == 0 {
		return
	}
	l.mu.Lock()
	if late := time.Now().Add(-maxLate); l.next.Before(late) {
		l.next = late
	}
	l.next = l.next.Add(time.Duration(int64(n) * int64(time.Second) / l.rate))
	at := l.next
	l.mu.Unlock()
	time.Sleep(time.Until(at))
}

type limitedWriter struct {
	http.ResponseWriter
	limit *limiter
}

func (l limitedWriter) Write(p []byte) (int, error) {
	l.limit.wait(len(p))
	return l.ResponseWriter.Write(p)
}

func (w squashfsFolder) must(b *testing.B, argv ...string) {
	b.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		b.Fatalf("%q: %v: %s", argv, err, out)
	}
}

// changeOnePerCent does something to one of a hundred files: in turn it changes
// the content, the mode, removes the file, and adds another.
func changeOnePerCent(b *testing.B, root string) {
	b.Helper()
	eachFile(b, root, func(path string, count int) error {
		switch count % 400 {
		case 50:
			return prefix(path, "changed\n")
		case 150:
			return os.Chmod(path, 0o640)
		case 250:
			return os.Remove(path)
		case 350:
			return os.WriteFile(path+".added", bytes.Repeat([]byte("added\n"), count), 0o644)
		}
		return nil
	})
}

// eachFile calls change for the regular files below root, which it counts.
func eachFile(b *testing.B, root string, change func(path string, count int) error) {
	b.Helper()
	count := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		count++
		return change(path, count)
	})
	if err != nil {
		b.Fatal(err)
	}
}

// prefix puts text before a file's content, without having it in memory: what a
// process has had there counts for the programs that it starts (execve(2) keeps
// the peak of a process that has been made by vfork(2)).
func prefix(path, text string) error {
	old, err := os.Open(path)
	if err != nil {
		return err
	}
	defer old.Close()
	changed, err := os.Create(path + ".changed")
	if err != nil {
		return err
	}
	defer changed.Close()
	if _, err := io.Copy(changed, io.MultiReader(strings.NewReader(text), old)); err != nil {
		return err
	}
	return os.Rename(changed.Name(), path)
}

// usage is what a program has taken.
type usage struct {
	wall, cpu time.Duration
	memory    int64 // bytes, at the most
	size      int64 // of what it has made
}

// compare lets both do their work in turn and reports medians and their ratios.
func (w squashfsFolder) compare(b *testing.B, c squashfsCase) {
	var ours, tools []usage
	for b.Loop() {
		for range c.rounds {
			ours = append(ours, w.run(b, c.ours, w.out("ours")))
			tools = append(tools, w.run(b, c.tools, w.out("tools")))
		}
	}
	median := func(of []usage, what func(usage) float64) float64 {
		values := make([]float64, 0, len(of))
		for _, u := range of {
			values = append(values, what(u))
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	b.ReportMetric(0, "ns/op")
	for _, m := range []struct {
		unit  string
		what  func(usage) float64
		ratio bool // tools to ours; false: ours to tools
	}{
		{"s", func(u usage) float64 { return u.wall.Seconds() }, true},
		{"cpu-s", func(u usage) float64 { return u.cpu.Seconds() }, true},
		{"MiB", func(u usage) float64 { return float64(u.memory) / (1 << 20) }, true},
		{"size-MiB", func(u usage) float64 { return float64(u.size) / (1 << 20) }, false},
	} {
		a, z := median(ours, m.what), median(tools, m.what)
		if a == 0 || z == 0 {
			continue // a directory has no size of its own
		}
		b.ReportMetric(a, m.unit)
		b.ReportMetric(z, "tools-"+m.unit)
		if m.ratio {
			b.ReportMetric(z/a, "x-tools-"+m.unit)
		} else {
			b.ReportMetric(a/z, "x-"+m.unit)
		}
	}
}

// run takes what a program needs to make out, which is removed afterwards.
func (w squashfsFolder) run(b *testing.B, argv []string, out string) usage {
	b.Helper()
	var said bytes.Buffer
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = &said, &said
	begin := time.Now()
	err := cmd.Run()
	u := usage{wall: time.Since(begin)}
	if err != nil {
		b.Fatalf("%q: %v: %s", argv, err, &said)
	}
	rusage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	u.cpu, u.memory = cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime(), rusage.Maxrss<<10
	if info, err := os.Stat(out); err == nil && info.Mode().IsRegular() {
		u.size = info.Size()
	}
	if err := os.RemoveAll(out); err != nil {
		b.Fatal(fmt.Errorf("clear up: %w", err))
	}
	return u
}
