package source

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"math"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"

	"buildenv/internal/fetch"
)

// FetchOptions say how a source is fetched that is a URL.
type FetchOptions struct {
	// MD5 is what its digest must be, in hex; "" is not checked.
	MD5 string
	// Roots verify the server's certificate; nil means the system's.
	Roots *x509.CertPool
	// Proxy chooses a proxy, as that of http.Transport does; nil means none.
	Proxy func(*http.Request) (*url.URL, error)
	// Progress is told how many bytes have arrived, of how many; 0 if nobody knows.
	Progress func(done, total int64)
}

// Remote tells whether a source is fetched, by http or https.
func Remote(src string) bool {
	scheme, _, ok := strings.Cut(src, "://")
	return ok && (strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https"))
}

// Show is a source for messages: of a URL without what may be secret in it.
func Show(src string) string {
	if Remote(src) {
		return fetch.Show(src)
	}
	return src
}

// forgetEarlier removes what earlier attempts to make dst have left, unless it is
// of use: the begin of the same download.
func forgetEarlier(src, dst string) error {
	err := forgetKept(dst)
	if err == nil && !Remote(src) {
		err = fetch.Forget(spool(dst))
	}
	return err
}

// spool is where a root's source is while it arrives.
func spool(dst string) string {
	return filepath.Join(filepath.Dir(dst), "."+filepath.Base(dst)+".download")
}

// startFetch begins to fetch what dst is made of.
func startFetch(ctx context.Context, src, dst string, opts Options) (*fetch.Download, error) {
	return fetch.Start(ctx, fetch.Options{
		URL: src, Spool: spool(dst), MD5: opts.Fetch.MD5, Roots: opts.Fetch.Roots, Proxy: opts.Fetch.Proxy,
		Lasting: opts.keeps(), MaxBytes: opts.MaxBytes, Progress: opts.Fetch.Progress, Log: opts.Log,
	})
}

// unpackFetched makes the directory temporary, which will be dst, while what it
// is made of arrives. It is there only if all of that has arrived and is right.
func unpackFetched(ctx context.Context, src, dst, temporary string, opts Options) (err error) {
	d, err := startFetch(ctx, src, dst, opts)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			d.Abort()
		}
		err = errors.Join(err, d.Close())
	}()
	kind, err := recogniseContent(d)
	if err != nil {
		return err
	}
	if kind == squashfsFile {
		return unpackArriving(ctx, d, dst, temporary, opts)
	}
	all := io.NewSectionReader(d, 0, math.MaxInt64)
	err = build(temporary, opts, func(t *tree) error { return unpackTarFrom(ctx, t, all, kind) })
	if err != nil {
		return err
	}
	return d.Wait()
}
