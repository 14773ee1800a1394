package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// generation is one archive in a line of them.
type generation struct {
	size, compact     int64 // bytes; of the one that would have been made compact
	travels           int64 // bytes that a store which has the one before does not have
	took, compactTook time.Duration
	madeCompact       bool
}

// BenchmarkSquashfsGenerations: the Debian root, changed between each archive and
// the next: scattered, one per cent of the files, every time others; or as by a
// package, which brings files of its own and has a list of all rewritten. Each
// archive is packed behind the one before, and beside that compact.
func BenchmarkSquashfsGenerations(b *testing.B) {
	b.Run("scattered", func(b *testing.B) { squashfsPlace(b).generations(b, 20, scattered) })
	b.Run("package", func(b *testing.B) { squashfsPlace(b).generations(b, 5, likeAPackage) })
}

func scattered(b *testing.B, root string, n int) {
	eachFile(b, root, func(path string, count int) error {
		if (count+37*n)%100 != 0 {
			return nil
		}
		return prefix(path, fmt.Sprintln("generation", n))
	})
}

func likeAPackage(b *testing.B, root string, n int) {
	dir := filepath.Join(root, "usr/lib", fmt.Sprint("package-", n))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	random := rand.New(rand.NewPCG(uint64(n), 0))
	for i := range 20 {
		content := make([]byte, 100<<10)
		for at := range content {
			content[at] = byte(random.Uint32()) & 0x3f // as compressible as programs are
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), content, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	if err := prefix(filepath.Join(root, "var/lib/dpkg/status"), fmt.Sprintln("Package: generation", n)); err != nil {
		b.Fatal(err)
	}
}

func (w squashfsFolder) generations(b *testing.B, count int, change func(b *testing.B, root string, n int)) {
	for b.Loop() {
		line := w.line(b, count, change)
		b.ReportMetric(0, "ns/op")
		each := func(what func(generation) float64) (values []float64) {
			for _, g := range line {
				values = append(values, what(g))
			}
			slices.Sort(values)
			return values
		}
		size := each(func(g generation) float64 { return float64(g.size) / float64(g.compact) })
		travels := each(func(g generation) float64 { return 100 * float64(g.travels) / float64(g.size) })
		b.ReportMetric(size[len(size)-1], "max-x-compact-size")
		b.ReportMetric(size[len(size)/2], "x-compact-size")
		b.ReportMetric(travels[len(travels)/2], "travels-%")
		b.ReportMetric(each(func(g generation) float64 { return g.took.Seconds() })[len(line)/2], "s")
		b.ReportMetric(each(func(g generation) float64 { return g.compactTook.Seconds() })[len(line)/2], "compact-s")
		made := 0
		for _, g := range line {
			if g.madeCompact {
				made++
			}
		}
		b.ReportMetric(float64(made), "made-compact")
	}
}

// line makes the archives, one from the other.
func (w squashfsFolder) line(b *testing.B, count int, change func(b *testing.B, root string, n int)) (line []generation) {
	b.Helper()
	w.must(b, w.binary, "squashfs", "pack", w.root, w.in("0"))
	for n := range count {
		root, record, old, next := w.in("root"), w.in("record"), w.in(fmt.Sprint(n)), w.in(fmt.Sprint(n+1))
		w.must(b, w.binary, "squashfs", "unpack", "--record", record, old, root)
		change(b, root, n)
		var g generation
		var said []byte
		said, g.took = w.timed(b, "pack", "--layout", "append", "--json", "--from", old, "--record", record, root, next)
		g.size = sizeOf(b, next)
		g.travels, g.madeCompact = parts(b, said, g.size)
		_, g.compactTook = w.timed(b, "pack", "--from", old, "--record", record, root, w.in("compact"))
		g.compact = sizeOf(b, w.in("compact"))
		line = append(line, g)
		w.must(b, "rm", "-r", root, record, old, w.in("compact"))
		b.Logf("%+v", g)
	}
	w.must(b, "rm", w.in(fmt.Sprint(count)))
	return line
}

func (w squashfsFolder) timed(b *testing.B, args ...string) (out []byte, took time.Duration) {
	b.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(w.binary, append([]string{"squashfs"}, args...)...)
	cmd.Stderr = &stderr
	begin := time.Now()
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("%q: %v: %s", args, err, &stderr)
	}
	return out, time.Since(begin)
}

func sizeOf(b *testing.B, name string) int64 {
	b.Helper()
	info, err := os.Stat(name)
	if err != nil {
		b.Fatal(err)
	}
	return info.Size()
}

// parts is how much of an archive has to travel when it is stored in parts, of
// which a store copies those by itself that are unchanged.
func parts(b *testing.B, said []byte, size int64) (travels int64, none bool) {
	b.Helper()
	const part = 8 << 20
	var packed struct {
		Unchanged []struct{ Offset, Length int64 }
	}
	if err := json.Unmarshal(said, &packed); err != nil {
		b.Fatal(err)
	}
	for at := int64(0); at < size; at += part {
		end := min(at+part, size)
		if !slices.ContainsFunc(packed.Unchanged, func(r struct{ Offset, Length int64 }) bool {
			return r.Offset <= at && r.Offset+r.Length >= end
		}) {
			travels += end - at
		}
	}
	return travels, len(packed.Unchanged) == 0
}
