package fetch

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

type fault = func(s *server, w http.ResponseWriter, r *http.Request, n int) bool

// What a server may do and the file still arrives.
func TestArrives(t *testing.T) {
	tests := []struct {
		name     string
		change   func(*server)
		fault    fault
		requests int // 0: any number
	}{
		{name: "nothing wrong", requests: 2}, // the stream, and the end
		{name: "cut again and again", fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			s.give(&cutWriter{w, 700_000}, r)
			return true
		}},
		{name: "no ranges, no version", requests: 1, fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			noRanges(w, s.content)
			return true
		}},
		{name: "no ranges but a version", requests: 2, fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			w.Header().Set("ETag", s.tag)
			noRanges(w, s.content)
			return true
		}},
		{name: "no ranges and cut", fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			if n <= 3 {
				w = &cutWriter{w, n * 800_000}
			}
			noRanges(w, s.content)
			return true
		}},
		{name: "a range is refused", fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			if r.Header.Get("Range") != "" {
				http.Error(w, "no", http.StatusForbidden)
				return true
			}
			return false
		}},
		{name: "weak tag", change: func(s *server) { s.tag = `W/"v1"` }},
		{name: "weak tag, cut", change: func(s *server) { s.tag = `W/"v1"` }, fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			if n < 3 {
				w = &cutWriter{w, 900_000}
			}
			s.give(w, r)
			return true
		}},
		{name: "a date, cut", change: func(s *server) { s.tag = "" }, fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			if n < 4 {
				w = &cutWriter{w, 900_000}
			}
			s.give(w, r)
			return true
		}},
		{name: "no version", change: func(s *server) { s.tag, s.modified = "", time.Time{} }, fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			if n == 1 {
				w = &cutWriter{w, 900_000}
			}
			s.give(w, r)
			return true
		}, requests: 2},
		{name: "size unknown", fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			w.Write(s.content[:100])
			w.(http.Flusher).Flush()
			w.Write(s.content[100:])
			return true
		}, requests: 1},
		{name: "size unknown, cut", fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			w.Write(s.content[:1_000_000*n])
			w.(http.Flusher).Flush()
			if n == 1 {
				panic(http.ErrAbortHandler)
			}
			w.Write(s.content[1_000_000*n:])
			return true
		}, requests: 2},
		{name: "empty", change: func(s *server) { s.content = nil }, requests: 1},
		{name: "one byte", change: func(s *server) { s.content = content[:1] }, requests: 1},
		{name: "errors that pass", fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			if codes := []int{503, 500, 429, 502}; n <= len(codes) {
				w.Header().Set("Retry-After", "1")
				http.Error(w, "later", codes[n-1])
				return true
			}
			return false
		}, requests: 6},
		{name: "shorter than announced, twice", fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			if r.Header.Get("Range") != "" || n > 2 {
				return false
			}
			s.give(&cutWriter{w, 1_000_000}, r)
			return true
		}},
		{name: "parts smaller than asked for", fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			var from, to int
			if c, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); c == 0 {
				return false
			}
			to = min(from+20_000, len(s.content))
			w.Header().Set("ETag", s.tag)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to-1, len(s.content)))
			w.WriteHeader(http.StatusPartialContent)
			w.Write(s.content[from:to])
			return true
		}},
		{name: "another range than asked for", fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			if r.Header.Get("Range") == "" {
				return false
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-9/%d", len(s.content)))
			w.WriteHeader(http.StatusPartialContent)
			w.Write(s.content[:10])
			return true
		}},
		{name: "several parts", fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			if r.Header.Get("Range") == "" {
				return false
			}
			r.Header.Set("Range", "bytes=0-5,10-20")
			s.give(w, r)
			return true
		}},
		{name: "redirected", fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			if r.URL.Path != "/there" {
				http.Redirect(w, r, "/there", http.StatusFound)
				return true
			}
			if r.Referer() != "" {
				http.Error(w, "the referer tells the query", http.StatusTeapot)
				return true
			}
			return false
		}, requests: 4},
		{name: "stored compressed", fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			if r.Header.Get("Accept-Encoding") != "identity" {
				http.Error(w, "asked for encodings", http.StatusTeapot)
				return true
			}
			w.Header().Set("Content-Encoding", "gzip") // ServeContent does without a Content-Length then
			return false
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, test.fault)
			if test.change != nil {
				test.change(s)
			}
			opts := options(t, s.URL+"/file?X-Amz-Signature=5ecret")
			opts.MD5 = digest(s.content)
			log := &syncBuffer{}
			opts.Log = logTo(log)
			got, err := get(t, opts, small)
			if err != nil {
				t.Fatalf("%v\n%s%q", err, log, s.asked())
			}
			if !bytes.Equal(got, s.content) {
				t.Errorf("%d bytes that are not the file's %d", len(got), len(s.content))
			}
			if n := len(s.asked()); test.requests != 0 && n != test.requests {
				t.Errorf("%d requests %q, want %d", n, s.asked(), test.requests)
			}
			if strings.Contains(log.String(), "5ecret") {
				t.Errorf("the log tells the query: %s", log)
			}
			nothingLeft(t, opts)
		})
	}
}

// What a server may do so that there is no file, and what is said then.
func TestFails(t *testing.T) {
	tests := []struct {
		name  string
		query string
		opts  func(*Options)
		fault fault
		want  []string
		is    error
		tries int  // requests; 0: any number
		stays bool // to be gone on with
	}{
		{name: "wrong digest", opts: func(o *Options) { o.MD5 = digest(nil) }, want: []string{digest(nil), digest(content), "MD5"}},
		{name: "no digest", opts: func(o *Options) { o.MD5 = "abc" }, want: []string{`"abc" is no MD5`}},
		{name: "not there", fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			http.NotFound(w, r)
			return true
		}, want: []string{"404 Not Found", "there is no such file"}, tries: 1},
		{name: "expired", query: "&X-Amz-Date=20200101T000000Z&X-Amz-Expires=60", fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, "<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Request has expired\x1b see http://h/?sig=5ecret</Message></Error>")
			return true
		}, want: []string{"403 Forbidden", "expired at 2020-01-01T00:01:00Z"}, tries: 1},
		{name: "what S3 says", query: "&X-Amz-Date=20200101T000000Z&X-Amz-Expires=99999999999", fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, "<Error><Code>SignatureDoesNotMatch</Code><Message>Bad</Message></Error>")
			return true
		}, want: []string{"403 Forbidden", "may have expired (SignatureDoesNotMatch: Bad)"}, tries: 1},
		{name: "errors that stay", fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			http.Error(w, "", http.StatusServiceUnavailable)
			return true
		}, want: []string{"gave up after 5 attempts", "503"}, tries: 5},
		{name: "changed tag", fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			if n > 1 {
				w.Header().Set("ETag", `"v2"`)
				http.ServeContent(w, r, "", s.modified, bytes.NewReader(s.content))
			} else {
				s.give(&cutWriter{w, 1_000_000}, r)
			}
			return true
		}, want: []string{"its ETag is another"}, is: errChanged},
		{name: "changed date", fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			if n > 1 {
				http.ServeContent(w, r, "", s.modified.Add(time.Hour), bytes.NewReader(s.content))
			} else {
				http.ServeContent(&cutWriter{w, 1_000_000}, r, "", s.modified, bytes.NewReader(s.content))
			}
			return true
		}, want: []string{"it was modified at"}, is: errChanged},
		{name: "changed length", fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			if n > 1 {
				noRanges(w, s.content[1:])
			} else {
				noRanges(&cutWriter{w, 1_000_000}, s.content)
			}
			return true
		}, want: []string{"bytes, before it had"}, is: errChanged},
		{name: "changed in secret", fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			if n > 1 {
				other := bytes.Clone(s.content)
				other[900_000]++
				noRanges(w, other)
			} else {
				noRanges(&cutWriter{w, 1_000_000}, s.content)
			}
			return true
		}, want: []string{"other bytes"}, is: errChanged},
		{name: "short for ever", fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			w.Header().Set("Content-Length", fmt.Sprint(len(s.content)))
			w.Write(s.content[:2_000_000])
			return true
		}, want: []string{"gave up after 9 attempts"}},
		{name: "a byte at a time", fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			s.give(&cutWriter{w, 1}, r)
			return true
		}, want: []string{"gave up after"}, stays: true},
		{name: "larger than allowed", opts: func(o *Options) { o.MaxBytes = 1 << 20 }, want: []string{"more than the limit"}, tries: 1},
		{name: "larger than allowed and does not say so", opts: func(o *Options) { o.MaxBytes = 1 << 20 }, fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			w.(http.Flusher).Flush()
			w.Write(s.content)
			return true
		}, want: []string{"more than it had announced, or than is allowed"}},
		{name: "larger than the disk", opts: func(o *Options) { o.MaxBytes = 1 << 62 }, fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			w.Header().Set("Content-Length", fmt.Sprint(int64(1)<<60))
			w.Write(s.content)
			return true
		}, want: []string{"the file needs 1152921504606846976 bytes", "are free in"}, tries: 1},
		{name: "a part that nobody asked for", fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			r.Header.Set("Range", "bytes=5-")
			r.Header.Del("If-Range")
			s.give(w, r)
			return true
		}, want: []string{"206"}, tries: 1},
		{name: "redirected in circles", fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			http.Redirect(w, r, "/again?sig=5ecret", http.StatusFound)
			return true
		}, want: []string{"more than 5 redirections"}, tries: 6},
		{name: "redirected to nonsense", fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			w.Header().Set("Location", "/x?sig=5ecret\x7f")
			w.WriteHeader(http.StatusFound)
			return true
		}, want: []string{"fetch: "}},
		{name: "redirected to another protocol", fault: func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
			return true
		}, want: []string{"fetch: "}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, test.fault)
			opts := options(t, strings.Replace(s.URL, "://", "://user:5ecret@", 1)+"/file?X-Amz-Signature=5ecret"+test.query)
			if test.opts != nil {
				test.opts(&opts)
			}
			log := &syncBuffer{}
			opts.Log = logTo(log)
			_, err := get(t, opts, small)
			if err == nil {
				t.Fatal("no error")
			}
			if missing := contains(err.Error(), test.want...); missing != nil {
				t.Error(missing)
			}
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("error %v, want %v", err, test.is)
			}
			if all := err.Error() + log.String(); strings.Contains(all, "5ecret") || strings.ContainsRune(all, '\x1b') {
				t.Errorf("what must not be told: %s", all)
			}
			if n := len(s.asked()); test.tries != 0 && n != test.tries {
				t.Errorf("%d requests, want %d", n, test.tries)
			}
			if !test.stays {
				nothingLeft(t, opts)
			}
		})
	}
}

// A range of another file under the same tag has been read before the stream comes
// there: it is found by the bytes that overlap, if there are any, or by the digest.
func TestPartOfAnotherFile(t *testing.T) {
	release := make(chan struct{})
	s := serve(t, func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
		if r.Header.Get("Range") == "" {
			s.give(&heldWriter{w, 1000, release}, r)
			return true
		}
		w.Header().Set("ETag", s.tag)
		http.ServeContent(w, r, "", s.modified, bytes.NewReader(make([]byte, len(s.content))))
		return true
	})
	opts := options(t, s.URL)
	d, err := start(t.Context(), opts, small)
	if err != nil {
		t.Fatal(err)
	}
	tail := make([]byte, 100)
	if _, err := d.ReadAt(tail, int64(len(content)-100)); err != nil || !bytes.Equal(tail, make([]byte, 100)) {
		t.Fatalf("read %x, error %v", tail, err)
	}
	close(release)
	if err := d.Wait(); !errors.Is(err, errChanged) && (err == nil || !strings.Contains(err.Error(), "its MD5 is")) {
		t.Errorf("error %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	nothingLeft(t, opts)
}

// While the middle is withheld, begin and end can be read.
func TestReadsWhileArriving(t *testing.T) {
	release := make(chan struct{})
	s := serve(t, func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
		if n == 1 {
			w = &heldWriter{w, 1 << 20, release}
		}
		s.give(w, r)
		return true
	})
	opts := options(t, s.URL)
	var told atomic.Int64
	opts.Progress = func(done, total int64) { told.Store(done) }
	d, err := start(t.Context(), opts, small)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	size := int64(len(content))
	for _, at := range []int64{0, 500_000, size - 10, size - 100_000, size - 700_000, 1<<20 - 50_000} {
		p := make([]byte, 50_000)
		n, err := d.ReadAt(p, at)
		if want := content[at:min(size, at+50_000)]; !bytes.Equal(p[:n], want) || (err == io.EOF) != (n < len(p)) || err != nil && err != io.EOF {
			t.Errorf("at %d: %d bytes, error %v", at, n, err)
		}
	}
	if n, err := d.ReadAt(make([]byte, 1), size); n != 0 || err != io.EOF {
		t.Errorf("behind the end: %d bytes, error %v", n, err)
	}
	if done, total := d.Done(); total != size || done == 0 || done > size/2 {
		t.Errorf("%d of %d bytes", done, total)
	}
	close(release)
	if err := d.Wait(); err != nil {
		t.Fatal(err)
	}
	if told.Load() != size {
		t.Errorf("told of %d bytes", told.Load())
	}
	kept := filepath.Join(filepath.Dir(opts.Spool), "kept")
	if err := d.Keep(kept); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(kept); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes are kept, error %v", len(got), err)
	}
}

// What has been fetched by ranges does not travel twice.
func TestStreamSkipsWhatIsThere(t *testing.T) {
	release := make(chan struct{})
	s := serve(t, func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
		if n == 1 {
			w = &heldWriter{w, 100_000, release}
		}
		s.give(w, r)
		return true
	})
	opts := options(t, s.URL)
	d, err := start(t.Context(), opts, small)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	half := int64(len(content) / 2)
	if _, err := io.Copy(io.Discard, io.NewSectionReader(d, half, 1<<40)); err != nil {
		t.Fatal(err)
	}
	close(release)
	if err := d.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, asked := range s.asked()[1:] {
		if asked == "" || strings.HasSuffix(asked, "-") {
			t.Errorf("asked for %q, although all behind it was there", asked)
		}
	}
}

// A body that stalls is asked for again.
func TestStall(t *testing.T) {
	l := small
	l.stall = 250 * time.Millisecond
	release := make(chan struct{})
	defer close(release)
	s := serve(t, func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
		switch n {
		case 1:
			<-release // no answer at all
		case 2:
			w = &heldWriter{w, 1_000_000, release}
		}
		s.give(w, r)
		return true
	})
	got, err := get(t, options(t, s.URL), l)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, error %v", len(got), err)
	}
}

// A download that was interrupted goes on where it was, if the file is the same.
func TestResume(t *testing.T) {
	tests := []struct {
		name   string
		change func(t *testing.T, s *server, opts *Options)
		want   string // the first request's Range of the second attempt
	}{
		{name: "the same", want: "bytes=1000000-"},
		{name: "changed", want: "bytes=1000000-", change: func(_ *testing.T, s *server, opts *Options) {
			s.tag, s.content = `"v2"`, content[100:]
			opts.MD5 = digest(s.content)
		}},
		{name: "another URL", change: func(_ *testing.T, s *server, opts *Options) { opts.URL += "?other" }},
		{name: "damaged state", change: func(t *testing.T, s *server, opts *Options) {
			overwrite(t, stateName(opts.Spool), "{")
		}},
		{name: "a state of an earlier boot", change: func(t *testing.T, s *server, opts *Options) {
			text, err := os.ReadFile(stateName(opts.Spool))
			if err != nil {
				t.Fatal(err)
			}
			overwrite(t, stateName(opts.Spool), strings.Replace(string(text), bootID(), "0", 1))
		}},
		{name: "a spool that is shorter than it was", change: func(t *testing.T, s *server, opts *Options) {
			if err := os.Truncate(opts.Spool, 10); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "a spool that is a link", change: func(t *testing.T, s *server, opts *Options) {
			if err := errors.Join(os.Rename(opts.Spool, opts.Spool+"2"), os.Symlink(opts.Spool+"2", opts.Spool)); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "a state that others may write", change: func(t *testing.T, s *server, opts *Options) {
			if err := os.Chmod(stateName(opts.Spool), 0o666); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "ranges no more", want: "bytes=1000000-", change: func(_ *testing.T, s *server, opts *Options) {
			s.fault = func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
				w.Header().Set("ETag", s.tag)
				noRanges(w, s.content)
				return true
			}
		}},
		{name: "a range cannot be had", want: "bytes=1000000-", change: func(_ *testing.T, s *server, opts *Options) {
			s.fault = func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
				if r.Header.Get("Range") != "" {
					http.Error(w, "", http.StatusRequestedRangeNotSatisfiable)
					return true
				}
				return false
			}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, nil)
			opts := options(t, s.URL+"/file")
			interrupt(t, s, opts)
			s.fault = nil
			if test.change != nil {
				test.change(t, s, &opts)
			}
			before := len(s.asked())
			got, err := get(t, opts, small)
			if err != nil || !bytes.Equal(got, s.content) {
				t.Fatalf("%d bytes, error %v", len(got), err)
			}
			if asked := s.asked()[before]; asked != test.want {
				t.Errorf("asked for %q, want %q", asked, test.want)
			}
		})
	}
}

// One that had arrived and was of no use yet does not arrive again.
func TestResumeWhole(t *testing.T) {
	s := serve(t, nil)
	opts := options(t, s.URL)
	ctx, cancel := context.WithCancel(t.Context())
	d, err := start(ctx, opts, small)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Wait(); err != nil {
		t.Fatal(err)
	}
	cancel()
	d.Abort()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	before := len(s.asked())
	got, err := get(t, opts, small)
	if err != nil || !bytes.Equal(got, content) {
		t.Fatalf("%d bytes, error %v", len(got), err)
	}
	if asked, want := s.asked()[before:], fmt.Sprintf("bytes=%d-", len(content)-1); !slices.Equal(asked, []string{want}) {
		t.Errorf("asked for %q, want %q", asked, want)
	}
}

// Ranges that follow each other come by the same connections.
func TestRangesShareConnections(t *testing.T) {
	release := make(chan struct{})
	var connections atomic.Int32
	s := &server{tag: `"v1"`, modified: time.Unix(1_000_000_000, 0), content: content}
	s.fault = func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
		if n == 1 {
			w = &heldWriter{w, 1000, release}
		}
		s.give(w, r)
		return true
	}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	defer close(release)
	d, err := start(t.Context(), options(t, s.URL), small)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := io.Copy(io.Discard, io.NewSectionReader(d, 1<<20, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if asked, n := len(s.asked()), connections.Load(); asked < 16 || n > 2 {
		t.Errorf("%d requests on %d connections", asked, n)
	}
}

func overwrite(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// interrupt fetches a million bytes and is cancelled then.
func interrupt(t *testing.T, s *server, opts Options) {
	t.Helper()
	release := make(chan struct{})
	defer close(release)
	s.fault = func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
		s.give(&heldWriter{w, 1_000_000, release}, r)
		return true
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	d, err := start(ctx, opts, small)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.ReadAt(make([]byte, 1_000_000), 0); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := d.Wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("waited for: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// A download of which nobody could use the rest leaves nothing.
func TestAbort(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	s := serve(t, func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
		noRanges(&heldWriter{w, 1_000_000, release}, s.content)
		return true
	})
	opts := options(t, s.URL)
	d, err := start(t.Context(), opts, small)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		_, err := d.ReadAt(make([]byte, 1), 2_000_000)
		ended <- err
	}()
	d.Abort()
	if err := <-ended; !errors.Is(err, errAborted) {
		t.Errorf("a read that waited: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	nothingLeft(t, opts)
}

// The server's certificate is verified, and never left for what is not encrypted.
func TestTLS(t *testing.T) {
	plain := serve(t, nil)
	s := &server{tag: `"v1"`, modified: time.Unix(1_000_000_000, 0), content: content}
	s.fault = func(_ *server, w http.ResponseWriter, r *http.Request, _ int) bool {
		if r.URL.Path == "/plain" {
			http.Redirect(w, r, plain.URL, http.StatusFound)
			return true
		}
		return false
	}
	encrypted := httptest.NewUnstartedServer(s)
	encrypted.Config.ErrorLog = log.New(io.Discard, "", 0)
	encrypted.StartTLS()
	defer encrypted.Close()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: encrypted.Certificate().Raw}))

	opts := options(t, encrypted.URL)
	if _, err := get(t, opts, small); err == nil || !strings.Contains(err.Error(), "certificate") || len(s.asked()) > 0 {
		t.Errorf("an authority that is not known: error %v", err)
	}
	opts.Roots = roots
	if got, err := get(t, opts, small); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, error %v", len(got), err)
	}
	opts.URL += "/plain"
	if _, err := get(t, opts, small); err == nil || !strings.Contains(err.Error(), "not encrypted") || len(plain.asked()) > 0 {
		t.Errorf("a redirection to http: error %v", err)
	}
}

// The proxy that is chosen is asked for the file.
func TestProxy(t *testing.T) {
	s := serve(t, nil)
	opts := options(t, "http://nowhere.invalid/file")
	opts.Proxy = func(r *http.Request) (*url.URL, error) { return url.Parse(s.URL) }
	if got, err := get(t, opts, small); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, error %v", len(got), err)
	}
}

// What has been kept stays, even if it is of no use for the caller afterwards.
func TestKeptThenAborted(t *testing.T) {
	s := serve(t, nil)
	opts := options(t, s.URL)
	opts.Lasting = true
	ctx, cancel := context.WithCancel(t.Context())
	d, err := start(ctx, opts, small)
	if err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(filepath.Dir(opts.Spool), "kept")
	if err := errors.Join(d.Wait(), d.Keep(kept)); err != nil {
		t.Fatal(err)
	}
	cancel()
	d.Abort()
	if err := errors.Join(d.Close(), os.Remove(kept)); err != nil {
		t.Error(err)
	}
	nothingLeft(t, opts)
}
