package fetch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"buildenv/internal/redact"
)

// parseURL takes the URL of a file. Of one that cannot be parsed nothing is
// shown: what is secret in it cannot be told.
func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("fetch: not a URL that could be understood")
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("fetch: only http and https are known")
	}
	if u.Host == "" {
		return nil, errors.New("fetch: no host in the URL")
	}
	return u, nil
}

// Show is a URL for messages: without user, query and fragment. Of one that cannot
// be parsed there is not even the beginning.
func Show(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return redact.Mark
	}
	return show(u)
}

// show is a URL for messages: without user, query and fragment.
func show(u *url.URL) string {
	bare := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	return bare.String()
}

// maxRedirects bounds how often a server may send us elsewhere.
const maxRedirects = 5

// newClient speaks HTTP/1.1: the stream and the ranges have connections of their own.
func newClient(opts Options, l limits) *http.Client {
	return &http.Client{
		CheckRedirect: redirect,
		Transport: &http.Transport{
			Proxy:                  opts.Proxy,
			DialContext:            (&net.Dialer{Timeout: min(30*time.Second, l.stall)}).DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: opts.Roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    min(30*time.Second, l.stall),
			MaxResponseHeaderBytes: 64 << 10,
			ReadBufferSize:         64 << 10,
			MaxIdleConnsPerHost:    maxAhead,
			IdleConnTimeout:        time.Minute,
			DisableCompression:     true, // the digest is that of the bytes as they are stored
		},
	}
}

func redirect(next *http.Request, before []*http.Request) error {
	if len(before) > maxRedirects {
		return final{fmt.Errorf("more than %d redirections", maxRedirects)}
	}
	if before[len(before)-1].URL.Scheme == "https" && next.URL.Scheme != "https" {
		return final{errors.New("the server redirects from https to what is not encrypted")}
	}
	next.Header.Del("Referer") // it would tell the query, which may be a signature, to another server
	return nil
}

// answer is what a server gives of the file.
type answer struct {
	header http.Header
	body   io.Reader // an error if nothing comes for long
	from   int64     // the offset of its first byte
	to     int64     // of the first byte behind it, or unknown
	part   bool      // asked for and given
	size   int64     // of the whole file, or unknown
	close  func()
}

// ask asks for the bytes from one offset to another, or to the end if that is
// unknown. With a condition it is the whole file that is given of another version.
func (d *Download) ask(from, to int64, condition string) (_ *answer, err error) {
	ctx, cancel := context.WithCancelCause(d.ctx)
	defer func() {
		if err != nil {
			cancel(nil)
		}
	}()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url.String(), nil)
	if err != nil {
		return nil, final{err}
	}
	request.Header.Set("Accept-Encoding", "identity")
	request.Header.Set("User-Agent", "buildenv")
	ranged := from > 0 || to != unknown
	if ranged {
		request.Header.Set("Range", byteRange(from, to))
		request.Header.Set("If-Range", condition)
	}
	watch := time.AfterFunc(d.limits.stall, func() { cancel(errStalled) })
	defer watch.Stop()
	response, err := d.client.Do(request)
	if err != nil {
		return nil, orCause(ctx, err)
	}
	a := &answer{
		header: response.Header, from: 0, to: response.ContentLength, size: response.ContentLength,
		body: &attended{response.Body, ctx, d.limits.stall, cancel},
		close: func() {
			cancel(nil)
			response.Body.Close()
		},
	}
	switch {
	case response.StatusCode == http.StatusOK:
		return a, nil
	case response.StatusCode == http.StatusPartialContent && ranged:
		a.part = true
		if a.from, a.to, a.size, err = contentRange(response.Header.Get("Content-Range")); err == nil && (a.from != from || to != unknown && a.to > to) {
			err = final{fmt.Errorf("the server gives the bytes %d to %d, asked for those from %d", a.from, a.to, from)}
		}
	default:
		err = d.refusal(response)
	}
	if err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

func byteRange(from, to int64) string {
	if to == unknown {
		return fmt.Sprintf("bytes=%d-", from)
	}
	return fmt.Sprintf("bytes=%d-%d", from, to-1)
}

var errContentRange = errors.New("the server's Content-Range cannot be understood")

// contentRange reads "bytes 0-99/200" as 0, 100 and 200; the last is unknown if it
// is "*" (RFC 9110 section 14.4).
func contentRange(text string) (from, to, size int64, err error) {
	bad := func() (int64, int64, int64, error) {
		return 0, 0, 0, final{fmt.Errorf("%w: %q", errContentRange, cut(text))}
	}
	rest, ok := strings.CutPrefix(text, "bytes ")
	part, whole, ok2 := strings.Cut(rest, "/")
	first, last, ok3 := strings.Cut(part, "-")
	if !ok || !ok2 || !ok3 {
		return bad()
	}
	from, ok = offset(first)
	to, ok2 = offset(last)
	size, ok3 = unknown, true
	if whole != "*" {
		size, ok3 = offset(whole)
	}
	if !ok || !ok2 || !ok3 || from > to || size != unknown && to >= size {
		return bad()
	}
	return from, to + 1, size, nil
}

// offset reads digits and nothing else.
func offset(text string) (int64, bool) {
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n < 1<<62
}

var errStalled = errors.New("nothing came from the server for too long")

// orCause is why a request was cancelled, if it was.
func orCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// attended is a body that ends with an error when it stalls.
type attended struct {
	body   io.Reader
	ctx    context.Context //nolint:containedctx // of the request
	stall  time.Duration
	cancel context.CancelCauseFunc
}

func (a *attended) Read(p []byte) (int, error) {
	watch := time.AfterFunc(a.stall, func() { a.cancel(errStalled) })
	defer watch.Stop()
	n, err := a.body.Read(p)
	if err != nil && err != io.EOF {
		err = orCause(a.ctx, err)
	}
	return n, err
}
