// Package fetch downloads a file that can be read while it arrives.
//
//	d, err := fetch.Start(ctx, fetch.Options{URL: url, Spool: "/mnt/image/.download", MD5: sum})
//	...
//	defer d.Close()
//	n, err := d.ReadAt(p, offset) // waits until that has arrived
//	...
//	err = d.Wait() // all is there, and has the digest
//	err = d.Keep("/mnt/image/archive")
//
// One request, the stream, brings the file from its begin to its end into the
// spool, a file on disk. Who reads what the stream will bring soon waits for it.
// What lies further on, as the tables at the end of an archive do, is asked for
// by a range of its own if the server can do that, and is not asked for again.
//
// Every byte is written to the spool once and only read from there: by readers,
// and by the digest. So what the digest says of the file holds for what was read,
// whatever the server answered to which request. Where two answers overlap they
// must agree.
//
// A connection that breaks, stalls or is refused for the moment is made again,
// within bounds. Server and URL are not trusted: what they say is bounded, and
// neither the URL's query nor its user, which may be secrets, come into messages.
//
// A download that was interrupted, by a signal, by the network or by the end of
// the process, leaves its spool and goes on when it is started again, if the
// server says that the file is the same.
package fetch

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"buildenv/internal/fsx"
)

// Options say what is downloaded, and how.
type Options struct {
	// URL is http or https.
	URL string
	// Spool is the name of the file that it arrives in; a file of that name with
	// ".state" behind it says how far it is. What is found there is gone on with,
	// or replaced.
	Spool string
	// MD5 is what the file's digest must be, in hex; "" is not checked.
	MD5 string
	// Lasting says that Keep is to be expected: it has little to write then.
	Lasting bool
	// MaxBytes bounds the file; 0 means 256 GiB.
	MaxBytes int64
	// Roots verify the server's certificate; nil means the system's.
	Roots *x509.CertPool
	// Proxy chooses a proxy, as that of http.Transport does; nil means none.
	Proxy func(*http.Request) (*url.URL, error)
	// Progress is told how many bytes have arrived, of how many; 0 if nobody knows.
	// It must not wait. nil is nobody to tell.
	Progress func(done, total int64)
	// Log is told what went wrong and is tried again; nil for nobody.
	Log *slog.Logger
}

const defaultMaxBytes = 256 << 30

func (o Options) withDefaults() Options {
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultMaxBytes
	}
	if o.Progress == nil {
		o.Progress = func(_, _ int64) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

var hexMD5 = regexp.MustCompile(`^[0-9A-Fa-f]{32}$`)

// limits are what tests make smaller.
type limits struct {
	near    int64         // what the stream brings soon: it is waited for
	piece   int64         // what a request of its own asks for, at a multiple of that
	skip    int64         // what is there already and worth a new request of the stream
	save    int64         // bytes of the stream between two notes of how far it is
	stall   time.Duration // without a byte
	pause   time.Duration // before the second attempt, twice that before the third
	longest time.Duration // pause that is made, whatever the server asks for
	begin   int           // attempts for the first answer
	resume  int           // attempts without a MiB between them
}

var defaultLimits = limits{
	near: 8 << 20, piece: 1 << 20, skip: 4 << 20, save: 8 << 20,
	stall: time.Minute, pause: time.Second / 2, longest: 2 * time.Minute, begin: 5, resume: 9,
}

// Download is a file that arrives. It is safe for concurrent use, but for Keep
// and Close, which are the last calls.
type Download struct {
	opts   Options
	limits limits
	url    *url.URL
	client *http.Client
	spool  *os.File
	kept   bool
	noted  int64 // how far the stream was at the last note; its own

	asked   context.Context //nolint:containedctx // what Start was called with
	ctx     context.Context //nolint:containedctx // ends with the download
	cancel  context.CancelFunc
	running sync.WaitGroup
	slots   chan struct{} // bounds the requests beside the stream

	// writing is held while the spool is written to, so that no byte of it is
	// written twice. It is taken before mu.
	writing sync.Mutex

	mu      sync.Mutex // protects the following
	changed *sync.Cond
	there   spans
	version version
	ranges  bool           // whether it makes sense to ask for them
	ahead   map[int64]bool // pieces that are asked for
	done    bool           // all is there and was found good
	err     error          // why it goes on no more
}

// maxAhead bounds the requests beside the stream.
const maxAhead = 4

// Start begins a download and returns when the server has begun to answer. ctx
// ends it at any time.
func Start(ctx context.Context, opts Options) (*Download, error) {
	return start(ctx, opts, defaultLimits)
}

func start(ctx context.Context, opts Options, l limits) (*Download, error) {
	d, err := newDownload(ctx, opts.withDefaults(), l)
	if err != nil {
		return nil, err
	}
	first, err := d.begin()
	if err != nil {
		d.cancel()
		if !resumable(err) {
			err = errors.Join(err, Forget(opts.Spool))
		}
		return nil, d.wrap(err)
	}
	d.running.Go(func() { d.run(first) })
	return d, nil
}

func newDownload(ctx context.Context, opts Options, l limits) (*Download, error) {
	u, err := parseURL(opts.URL)
	if err != nil {
		return nil, err
	}
	if opts.MD5 != "" && !hexMD5.MatchString(opts.MD5) {
		return nil, fmt.Errorf("fetch: %q is no MD5, which has 32 digits", cut(opts.MD5))
	}
	d := &Download{
		opts: opts, limits: l, url: u, client: newClient(opts, l), asked: ctx, slots: make(chan struct{}, maxAhead),
		version: version{Size: unknown}, ahead: map[int64]bool{},
	}
	d.ctx, d.cancel = context.WithCancel(ctx)
	d.changed = sync.NewCond(&d.mu)
	return d, nil
}

// run brings the file and looks at its digest meanwhile.
func (d *Download) run(first *answer) {
	var parts errgroup.Group
	parts.Go(func() error { return d.fail(d.stream(first)) })
	parts.Go(func() error { return d.fail(d.verify()) })
	if parts.Wait() != nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.done = d.err == nil
	d.changed.Broadcast()
}

// fail ends the download with its first error and returns what it was given.
func (d *Download) fail(err error) error {
	if err == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil && !d.done {
		d.err = d.wrap(err)
	}
	d.changed.Broadcast()
	d.cancel()
	return err
}

func (d *Download) wrap(err error) error { return &fetchError{err} }

// Wait waits for the end: everything is there, and has the digest that was
// expected.
func (d *Download) Wait() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for !d.done && d.err == nil {
		d.changed.Wait()
	}
	return d.err
}

var errAborted = errors.New("what was fetched is of no use")

// Abort ends the download for good: reads that wait return, and nothing of it
// stays. It does nothing more if the download was interrupted before.
func (d *Download) Abort() {
	err := error(final{errAborted})
	if d.asked.Err() != nil {
		err = d.asked.Err() // that is why nobody wants it any more: to go on later makes sense
	}
	d.mu.Lock()
	d.done = false
	d.mu.Unlock()
	d.fail(err)
}

// Keep gives a file that has arrived its name, for good. Call it after Wait.
func (d *Download) Keep(name string) error {
	err := d.spool.Sync()
	if err == nil {
		err = os.Rename(d.opts.Spool, name)
	}
	if err != nil {
		return fmt.Errorf("keep what was fetched: %w", err)
	}
	d.kept = true
	return errors.Join(Forget(d.opts.Spool), fsx.SyncDir(filepath.Dir(name)))
}

// Close ends the download if it is still going on. The spool stays if it has been
// kept, or if it makes sense to go on with it.
func (d *Download) Close() error {
	d.cancel()
	d.running.Wait()
	d.client.CloseIdleConnections()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.kept && d.err != nil && resumable(d.err) && d.version.condition() != "" {
		return errors.Join(d.save(), d.spool.Close())
	}
	err := d.spool.Close()
	if !d.kept {
		err = errors.Join(err, Forget(d.opts.Spool))
	}
	return err
}

// ReadAt reads what has arrived, and waits for what has not; see io.ReaderAt.
func (d *Download) ReadAt(p []byte, at int64) (int, error) {
	n, err := d.await(at, int64(len(p)))
	if err != nil {
		return 0, err
	}
	m, err := d.spool.ReadAt(p[:n], at)
	if err == nil && int(n) < len(p) {
		err = io.EOF
	}
	return m, err
}

// await waits for n bytes, or for as many as the file has there.
func (d *Download) await(at, n int64) (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		if d.err != nil {
			return 0, d.err
		}
		if size := d.version.Size; size != unknown {
			if at >= size {
				return 0, io.EOF
			}
			n = min(n, size-at)
		}
		missing := d.there.end(at)
		if missing >= at+n {
			return n, nil
		}
		if piece := missing / d.limits.piece; d.far(missing) && !d.ahead[piece] {
			d.ahead[piece] = true
			d.mu.Unlock()
			d.fetchAhead(piece)
			d.mu.Lock()
			delete(d.ahead, piece)
			d.changed.Broadcast()
			continue
		}
		d.changed.Wait()
	}
}

// far tells whether the stream needs long to come there, and there is another way.
// The caller holds mu.
func (d *Download) far(at int64) bool {
	return d.ranges && at-d.there.end(0) > d.limits.near
}

// Done tells how many bytes have arrived, and of how many; 0 if nobody knows.
func (d *Download) Done() (done, total int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.there.total(), max(d.version.Size, 0)
}
