package fetch

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
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
)

// content is what the tests fetch.
var content = func() []byte {
	b := make([]byte, 3<<20+12345)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	return b
}()

func digest(b []byte) string {
	sum := md5.Sum(b)
	return hex.EncodeToString(sum[:])
}

// small are limits that fit the content.
var small = limits{
	near: 64 << 10, piece: 64 << 10, skip: 512 << 10, save: 128 << 10,
	stall: 5 * time.Second, pause: time.Millisecond, longest: 4 * time.Millisecond, begin: 5, resume: 9,
}

// server serves the content, as ServeContent does, with a fault.
type server struct {
	*httptest.Server
	tag      string
	modified time.Time
	content  []byte
	fault    func(s *server, w http.ResponseWriter, r *http.Request, n int) bool // true: answered

	mu       sync.Mutex // protects the following
	requests []string   // their Range
}

func serve(t *testing.T, fault func(s *server, w http.ResponseWriter, r *http.Request, n int) bool) *server {
	t.Helper()
	s := &server{tag: `"v1"`, modified: time.Unix(1_000_000_000, 0), content: content, fault: fault}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Header.Get("Range"))
	n := len(s.requests)
	s.mu.Unlock()
	if s.fault == nil || !s.fault(s, w, r, n) {
		s.give(w, r)
	}
}

func (s *server) give(w http.ResponseWriter, r *http.Request) {
	if s.tag != "" {
		w.Header().Set("ETag", s.tag)
	}
	http.ServeContent(w, r, "", s.modified, bytes.NewReader(s.content))
}

func (s *server) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.requests...)
}

// cutWriter breaks the connection after so many bytes.
type cutWriter struct {
	http.ResponseWriter
	left int
}

func (c *cutWriter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p[:min(len(p), c.left)])
	if c.left -= n; c.left == 0 {
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// heldWriter lets so many bytes through and the rest when it is released.
type heldWriter struct {
	http.ResponseWriter
	left    int
	release <-chan struct{}
}

func (h *heldWriter) Write(p []byte) (int, error) {
	free := min(len(p), h.left)
	n, err := h.ResponseWriter.Write(p[:free])
	if h.left -= n; err != nil || n == len(p) {
		return n, err
	}
	h.ResponseWriter.(http.Flusher).Flush()
	<-h.release
	m, err := h.ResponseWriter.Write(p[free:])
	h.left = 1 << 40
	return n + m, err
}

func noRanges(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	w.Write(body)
}

// syncBuffer is a log that several goroutines write.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func options(t *testing.T, url string) Options {
	return Options{URL: url, Spool: filepath.Join(t.TempDir(), "spool"), MD5: digest(content)}
}

// get fetches a file, reads it while it arrives, its end first, and waits.
func get(t *testing.T, opts Options, l limits) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	d, err := start(ctx, opts, l)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if _, size := d.Done(); size > 100 {
		tail := make([]byte, 100)
		if _, err := d.ReadAt(tail, size-100); err != nil && err != io.EOF {
			return nil, err
		}
	}
	all, err := io.ReadAll(io.NewSectionReader(d, 0, 1<<40))
	if err != nil {
		return nil, err
	}
	return all, d.Wait()
}

// nothingLeft checks that a download has left no files.
func nothingLeft(t *testing.T, opts Options) {
	t.Helper()
	names, err := os.ReadDir(filepath.Dir(opts.Spool))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		t.Errorf("left: %s", name.Name())
	}
}

func logTo(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

func contains(text string, all ...string) error {
	for _, part := range all {
		if !strings.Contains(text, part) {
			return fmt.Errorf("%q lacks %q", text, part)
		}
	}
	return nil
}
