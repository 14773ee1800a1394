// Package storetest says in tests what every [artifacts.Store] does. A store
// is right when it passes [Test].
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"buildenv/artifacts"
)

// Test runs the suite; open gives an empty store for each part of it.
func Test(t *testing.T, open func(t *testing.T) artifacts.Store) {
	parts := []struct {
		name string
		test func(*testing.T, artifacts.Store)
	}{
		{"Life", testLife},
		{"Replace", testReplace},
		{"Contents", testContents},
		{"Keys", testKeys},
		{"BadKeys", testBadKeys},
		{"Metadata", testMetadata},
		{"List", testList},
		{"ShortBody", testShortBody},
		{"Cancel", testCancel},
		{"ConcurrentPuts", testConcurrentPuts},
		{"ReadersSeeWholeObjects", testReaders},
	}
	for _, part := range parts {
		t.Run(part.name, func(t *testing.T) { part.test(t, open(t)) })
	}
}

// noise is size bytes that no part of repeats, the same for the same seed.
func noise(seed byte, size int) []byte {
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

func put(t *testing.T, s artifacts.Store, key string, content []byte, metadata map[string]string) artifacts.Object {
	t.Helper()
	o, err := s.Put(t.Context(), key, bytes.NewReader(content), int64(len(content)), metadata)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func read(ctx context.Context, s artifacts.Store, key string) ([]byte, error) {
	r, err := s.Open(ctx, key)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(r)
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	return content, err
}

// want checks what is under a key.
func want(t *testing.T, s artifacts.Store, key string, content []byte, metadata map[string]string) {
	t.Helper()
	got, err := read(t.Context(), s, key)
	if err != nil {
		t.Error(err)
	} else if !bytes.Equal(got, content) {
		t.Errorf("%q: %d bytes that are not the %d put", key, len(got), len(content))
	}
	o, err := s.Stat(t.Context(), key)
	if err != nil {
		t.Error(err)
		return
	}
	if o.Key != key || o.Size != int64(len(content)) || o.ETag == "" || strings.Contains(o.ETag, `"`) {
		t.Errorf("Stat(%q) = %+v, want size %d and a bare ETag", key, o, len(content))
	}
	if !maps.Equal(o.Metadata, metadata) {
		t.Errorf("metadata of %q: %q, want %q", key, o.Metadata, metadata)
	}
}

// wantNone checks that nothing is under a key.
func wantNone(t *testing.T, s artifacts.Store, key string) {
	t.Helper()
	if _, err := s.Open(t.Context(), key); !errors.Is(err, artifacts.ErrNotFound) {
		t.Errorf("Open(%q): error %v, want ErrNotFound", key, err)
	}
	if _, err := s.Stat(t.Context(), key); !errors.Is(err, artifacts.ErrNotFound) {
		t.Errorf("Stat(%q): error %v, want ErrNotFound", key, err)
	}
}

func wantList(t *testing.T, s artifacts.Store, prefix string, keys ...string) {
	t.Helper()
	objects, err := s.List(t.Context(), prefix)
	if err != nil {
		t.Error(err)
	}
	var got []string
	for _, o := range objects {
		got = append(got, o.Key)
	}
	if !slices.Equal(got, keys) {
		t.Errorf("List(%q) = %q, want %q", prefix, got, keys)
	}
}

func testLife(t *testing.T, s artifacts.Store) {
	const key = "an-image/rootfs"
	wantNone(t, s, key)
	wantList(t, s, "")
	if err := s.Delete(t.Context(), key); err != nil {
		t.Errorf("deleting nothing: %v", err)
	}
	content := []byte("content")
	o := put(t, s, key, content, map[string]string{"md5sum": "x"})
	want(t, s, key, content, map[string]string{"md5sum": "x"})
	stat, err := s.Stat(t.Context(), key)
	if err != nil || stat.ETag != o.ETag || stat.Size != o.Size || stat.Key != o.Key {
		t.Errorf("Put says %+v, Stat %+v, error %v", o, stat, err)
	}
	link := s.Link(o)
	if link.ETag != o.ETag || link.Type == "" || !strings.HasSuffix(link.Path, "/"+key) {
		t.Errorf("Link = %+v", link)
	}
	if err := s.Delete(t.Context(), key); err != nil {
		t.Error(err)
	}
	wantNone(t, s, key)
	wantList(t, s, "")
}

func testReplace(t *testing.T, s artifacts.Store) {
	before := put(t, s, "a/b", []byte("a long first version"), map[string]string{"one": "1"})
	after := put(t, s, "a/b", []byte("second"), map[string]string{"two": "2"})
	want(t, s, "a/b", []byte("second"), map[string]string{"two": "2"})
	if before.ETag == after.ETag {
		t.Errorf("both versions have ETag %s", after.ETag)
	}
	wantList(t, s, "", "a/b")
}

func testContents(t *testing.T, s artifacts.Store) {
	sizes := []int{0, 1, 4096, 1<<20 + 1, 17<<20 + 3} // the last is more than one part of an S3 upload
	for i, size := range sizes {
		key := fmt.Sprint("size/", size)
		content := noise(byte(i), size)
		put(t, s, key, content, nil)
		want(t, s, key, content, nil)
	}
}

func testKeys(t *testing.T, s artifacts.Store) {
	keys := []string{
		"plain", "a/b/c/d/e", "with space", "größe/€", "a+b&c=d?e#f%20", "..a", "b..", "-rf", ".hidden", "quote\"'", `back\slash`,
		"metadata.json", "manifest.json", strings.Repeat("long/", 200) + "key",
	}
	for _, key := range keys {
		put(t, s, key, []byte(key), nil)
	}
	for _, key := range keys {
		want(t, s, key, []byte(key), nil)
	}
	slices.Sort(keys)
	wantList(t, s, "", keys...)
}

func testBadKeys(t *testing.T, s artifacts.Store) {
	keys := []string{
		"", ".", "..", "/", "/etc/passwd", "../outside", "a/../../outside", "a/../b", "a//b", "a/", "./a", "nul\x00", "\xff",
		strings.Repeat("k", artifacts.MaxKey+1),
	}
	for _, key := range keys {
		_, put := s.Put(t.Context(), key, strings.NewReader("x"), 1, nil)
		_, open := s.Open(t.Context(), key)
		_, stat := s.Stat(t.Context(), key)
		for verb, err := range map[string]error{"Put": put, "Open": open, "Stat": stat, "Delete": s.Delete(t.Context(), key)} {
			if !errors.Is(err, artifacts.ErrBadKey) {
				t.Errorf("%s(%q): error %v, want ErrBadKey", verb, key, err)
			}
		}
	}
	wantList(t, s, "")
}

func testMetadata(t *testing.T, s artifacts.Store) {
	given := map[string]string{
		"md5sum":                  "d41d8cd98f00b204e9800998ecf8427e",
		"x-shasta-ims-image-name": "größe € 日本 \U0001f600",
		"quotes":                  `"a" 'b' \ % %41 + &`,
		"looks-encoded":           "=?UTF-8?B?eA==?=",
	}
	put(t, s, "k", nil, given)
	want(t, s, "k", nil, given)
	put(t, s, "k", nil, map[string]string{"X-Mixed-Case": "Value"})
	want(t, s, "k", nil, map[string]string{"x-mixed-case": "Value"})
}

func testList(t *testing.T, s artifacts.Store) {
	keys := []string{"a", "b-c/x", "b/c/x", "b/c/y", "b/d", "bc"}
	for _, key := range slices.Backward(keys) {
		put(t, s, key, []byte(key), map[string]string{"key": key})
	}
	wantList(t, s, "", keys...)
	wantList(t, s, "b", "b-c/x", "b/c/x", "b/c/y", "b/d", "bc")
	wantList(t, s, "b/", "b/c/x", "b/c/y", "b/d")
	wantList(t, s, "b/c", "b/c/x", "b/c/y")
	wantList(t, s, "b/d", "b/d")
	wantList(t, s, "none/")
	wantList(t, s, "../")
	objects, err := s.List(t.Context(), "b/d")
	if err != nil || len(objects) != 1 || objects[0].Size != 3 || objects[0].ETag == "" {
		t.Errorf("List gives %+v, error %v", objects, err)
	}
}

func testShortBody(t *testing.T, s artifacts.Store) {
	put(t, s, "old", []byte("old"), nil)
	for _, key := range []string{"new", "old"} {
		if _, err := s.Put(t.Context(), key, strings.NewReader("short"), 6, nil); err == nil {
			t.Errorf("Put(%q) of 5 bytes as 6: no error", key)
		}
	}
	wantNone(t, s, "new")
	want(t, s, "old", []byte("old"), nil)
	put(t, s, "part", noise(1, 10)[:4], nil)
	want(t, s, "part", noise(1, 10)[:4], nil)
}

// cancelling is a body in the middle of which the context ends.
type cancelling struct {
	io.ReaderAt
	at     int64
	cancel context.CancelFunc
}

func (c cancelling) ReadAt(p []byte, offset int64) (int, error) {
	if offset+int64(len(p)) > c.at {
		c.cancel()
	}
	return c.ReaderAt.ReadAt(p, offset)
}

func testCancel(t *testing.T, s artifacts.Store) {
	content := noise(1, 12<<20)
	for _, at := range []int64{0, 1 << 20, 12<<20 - 1} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		body := cancelling{bytes.NewReader(content), at, cancel}
		if _, err := s.Put(ctx, "k", body, int64(len(content)), nil); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled at %d: error %v, want context.Canceled", at, err)
		}
		wantNone(t, s, "k")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Put(ctx, "k", bytes.NewReader(nil), 0, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: error %v, want context.Canceled", err)
	}
	wantNone(t, s, "k")
	wantList(t, s, "")
}

// writerCount is how many write at the same time.
const writerCount = 4

func testConcurrentPuts(t *testing.T, s artifacts.Store) {
	var writers sync.WaitGroup
	for i := range byte(writerCount) {
		writers.Go(func() {
			content := noise(i, 1<<20+int(i))
			_, err := s.Put(t.Context(), "dir/same", bytes.NewReader(content), int64(len(content)), map[string]string{"writer": fmt.Sprint(i)})
			if err != nil {
				t.Error(err)
			}
			own := fmt.Sprint("dir/own-", i)
			if _, err := s.Put(t.Context(), own, bytes.NewReader(content), int64(len(content)), nil); err != nil {
				t.Error(err)
			}
			if err := s.Delete(t.Context(), own); err != nil {
				t.Error(err)
			}
		})
	}
	writers.Wait()
	o, err := s.Stat(t.Context(), "dir/same")
	if err != nil {
		t.Fatal(err)
	}
	winner := byte(o.Size - 1<<20)
	if winner >= writerCount {
		t.Fatalf("size %d is no writer's", o.Size)
	}
	want(t, s, "dir/same", noise(winner, 1<<20+int(winner)), map[string]string{"writer": fmt.Sprint(winner)})
	wantList(t, s, "", "dir/same")
}

func testReaders(t *testing.T, s artifacts.Store) {
	versions := [][]byte{noise(0, 1<<20), noise(1, 1<<19)}
	put(t, s, "k", versions[0], nil)
	written := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for last := false; !last; {
				select {
				case <-written:
					last = true
				default:
				}
				content, err := read(t.Context(), s, "k")
				if err != nil {
					t.Error(err)
				} else if !bytes.Equal(content, versions[0]) && !bytes.Equal(content, versions[1]) {
					t.Errorf("read %d bytes that are neither version", len(content))
				}
			}
		})
	}
	for i := range 16 {
		put(t, s, "k", versions[i%2], nil)
	}
	close(written)
	readers.Wait()
}
