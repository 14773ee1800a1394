package source

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"buildenv/artifacts"
	"buildenv/artifacts/squashfs"
	"buildenv/internal/treediff"
)

// largeRoot has files that do not compress, 24 MiB in all.
func largeRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	noise := rand.NewChaCha8([32]byte{2})
	for i := range 240 {
		b := make([]byte, 100<<10+i)
		noise.Read(b)
		must(t, os.WriteFile(filepath.Join(root, fmt.Sprintf("file%03d", i)), b, 0o640))
	}
	return root
}

// packed is an archive of a root, and its digest.
func packed(t *testing.T, root string) (archive, sum string) {
	t.Helper()
	archive = filepath.Join(t.TempDir(), "image")
	must(t, squashfs.Packer{Log: slog.New(slog.DiscardHandler)}.Pack(t.Context(), root, archive, artifacts.PackOptions{Compression: "none"}))
	return archive, sumOf(t, archive)
}

func sumOf(t *testing.T, name string) string {
	t.Helper()
	sum := md5.Sum(contentOf(t, name))
	return hex.EncodeToString(sum[:])
}

// serveFile serves one file through a writer that may meddle with it.
func serveFile(t *testing.T, name string, meddle func(http.ResponseWriter, *http.Request) http.ResponseWriter) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if meddle != nil {
			w = meddle(w, r)
		}
		w.Header().Set("ETag", `"1"`)
		http.ServeFile(w, r, name)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/image?X-Amz-Signature=5ecret"
}

// withheld lets the bytes of an answer through up to a limit, and more when it is
// released.
type withheld struct {
	http.ResponseWriter
	left    int
	release <-chan struct{}
}

func (h *withheld) Write(p []byte) (int, error) {
	for n := 0; ; {
		free := min(len(p)-n, h.left)
		m, err := h.ResponseWriter.Write(p[n : n+free])
		n, h.left = n+m, h.left-m
		if err != nil || n == len(p) {
			return n, err
		}
		h.ResponseWriter.(http.Flusher).Flush()
		<-h.release
		h.left = 1 << 40
	}
}

// While the server withholds the middle of a squashfs, the files before it are
// unpacked already.
func TestUnpackingOverlapsTheDownload(t *testing.T) {
	root := largeRoot(t)
	archive, sum := packed(t, root)
	release := make(chan struct{})
	var once sync.Once
	url := serveFile(t, archive, func(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
		if r.Header.Get("Range") == "" {
			return &withheld{w, 8 << 20, release}
		}
		return w
	})
	parent := t.TempDir()
	dst := filepath.Join(parent, "root")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- Unpack(ctx, url, dst, Options{Keep: KeepAlways, Fetch: FetchOptions{MD5: sum}})
	}()
	early := filepath.Join(parent, "..root.unpacking.tmp-*", "root", "file0*")
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		if files, err := filepath.Glob(early); err != nil || len(files) >= 50 {
			once.Do(func() { close(release) })
			tick.Stop()
			break
		}
		select {
		case <-tick.C:
		case err := <-ended:
			t.Fatalf("ended early: %v", err)
		}
	}
	must(t, <-ended)
	differences, err := treediff.DiffSeconds(root, dst)
	must(t, err)
	for _, difference := range differences {
		t.Error(difference)
	}
	leftovers(t, parent, ".root.source", ".root.source.record", "root")
	kept, record := Kept(dst)
	if !bytes.Equal(contentOf(t, kept), contentOf(t, archive)) {
		t.Error("what is kept is not what was fetched")
	}
	again := filepath.Join(t.TempDir(), "again")
	must(t, squashfs.Packer{Log: slog.New(slog.DiscardHandler)}.Pack(t.Context(), dst, again, artifacts.PackOptions{From: kept, Record: record}))
	if !bytes.Equal(contentOf(t, again), contentOf(t, archive)) {
		t.Error("packed again it is another archive")
	}
}

// Whatever a source is, and whatever the server can do, it becomes the same root.
func TestFetchedSources(t *testing.T) {
	needs(t, "tar", "gzip", "zstd")
	root := quirks(t)
	archive, _ := packed(t, root)
	plain := filepath.Join(t.TempDir(), "a.tar")
	gnuTar(t, root, plain, "--format=pax")
	run(t, "gzip", "-k", plain)
	run(t, "zstd", "-q", plain)
	for _, src := range []string{archive, plain, plain + ".gz", plain + ".zst"} {
		for _, ranges := range []bool{true, false} {
			if !ranges && src != archive && src != plain {
				continue // it makes no difference what a tar is compressed with
			}
			t.Run(fmt.Sprintf("%s, ranges %v", filepath.Base(src), ranges), func(t *testing.T) {
				local, parent := filepath.Join(t.TempDir(), "root"), t.TempDir()
				must(t, Unpack(t.Context(), src, local, Options{}))
				url := serveFile(t, src, func(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
					if !ranges {
						r.Header.Del("Range")
					}
					return w
				})
				dst := filepath.Join(parent, "root")
				must(t, Unpack(t.Context(), url, dst, Options{Fetch: FetchOptions{MD5: sumOf(t, src)}}))
				differences, err := treediff.Diff(local, dst)
				must(t, err)
				for _, difference := range differences {
					t.Error(difference)
				}
				leftovers(t, parent, "root")
			})
		}
	}
}

// Of what must not become a root nothing stays.
func TestFetchedAndRefused(t *testing.T) {
	needs(t, "tar")
	root := t.TempDir()
	must(t, os.WriteFile(filepath.Join(root, "file"), bytes.Repeat([]byte("content "), 1<<17), 0o644))
	archive, _ := packed(t, root)
	tarball := filepath.Join(t.TempDir(), "a.tar")
	gnuTar(t, root, tarball, "--format=pax")
	half := filepath.Join(t.TempDir(), "half")
	must(t, os.WriteFile(half, contentOf(t, archive)[:3000], 0o644))
	const other = "00000000000000000000000000000000"
	tests := []struct {
		name, src string
		opts      Options
		want      []string
	}{
		{"digest of a squashfs", archive, Options{Keep: KeepAlways, Fetch: FetchOptions{MD5: other}}, []string{sumOf(t, archive), other}},
		{"digest of a tar", tarball, Options{Fetch: FetchOptions{MD5: other}}, []string{sumOf(t, tarball), other}},
		{"truncated", half, Options{Fetch: FetchOptions{MD5: sumOf(t, half)}}, []string{"truncated"}},
		{"too big", archive, Options{MaxBytes: 1000}, []string{"limit"}},
		{"no image", os.Args[0], Options{}, []string{"neither a directory nor"}},
		{"not there", filepath.Join(root, "none"), Options{}, []string{"404"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			parent := t.TempDir()
			err := Unpack(t.Context(), serveFile(t, test.src, nil), filepath.Join(parent, "root"), test.opts)
			if err == nil {
				t.Fatal("no error")
			}
			for _, part := range append(test.want, "unpack: http://127.0.0.1:") {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q lacks %q", err, part)
				}
			}
			if strings.Contains(err.Error(), "5ecret") {
				t.Errorf("the error tells the query: %v", err)
			}
			leftovers(t, parent)
		})
	}
}

// A disk that is full ends the unpacking at once, although the rest has not come.
func TestFullDiskWhileArriving(t *testing.T) {
	archive, _ := packed(t, largeRoot(t))
	never := make(chan struct{})
	defer close(never)
	url := serveFile(t, archive, func(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
		if r.Header.Get("Range") == "" {
			return &withheld{w, 14 << 20, never}
		}
		return w
	})
	parent := inMemory(t, "26m") // the archive's size, and not the root's as well
	err := Unpack(t.Context(), url, filepath.Join(parent, "root"), Options{})
	if err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("error %v", err)
	}
	leftovers(t, parent)
}

// What was interrupted leaves what has arrived, and another source removes it.
func TestInterruptedFetch(t *testing.T) {
	archive, sum := packed(t, largeRoot(t))
	never := make(chan struct{})
	defer close(never)
	var hold sync.Map
	url := serveFile(t, archive, func(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
		if _, held := hold.LoadOrStore("first", true); !held {
			return &withheld{w, 14 << 20, never}
		}
		return w
	})
	parent := t.TempDir()
	dst := filepath.Join(parent, "root")
	ctx, cancel := context.WithCancel(t.Context())
	err := Unpack(ctx, url, dst, Options{Fetch: FetchOptions{MD5: sum, Progress: func(done, _ int64) {
		if done > 10<<20 {
			cancel()
		}
	}}})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	leftovers(t, parent, ".root.download", ".root.download.state")

	least := int64(-1)
	must(t, Unpack(t.Context(), url, dst, Options{Fetch: FetchOptions{MD5: sum, Progress: func(done, _ int64) {
		if least < 0 {
			least = done
		}
	}}}))
	if least < 8<<20 {
		t.Errorf("went on at %d bytes", least)
	}
	leftovers(t, parent, "root")
	must(t, os.RemoveAll(dst))

	must(t, os.WriteFile(filepath.Join(parent, ".root.download"), nil, 0o600))
	must(t, Unpack(t.Context(), archive, dst, Options{}))
	leftovers(t, parent, "root")
}
