package fetch

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// state is what is known of a spool that another process has left.
type state struct {
	// Source is a digest of the URL, which is a secret itself.
	Source string `json:"source"`
	// Boot is that of the kernel: what it had not yet written to the disk when it
	// was started again is lost, whatever the spool's size says.
	Boot string `json:"boot"`
	Have int64  `json:"have"` // bytes, from the begin on
	version
}

// stateName is the file of a spool's state.
func stateName(spool string) string { return spool + ".state" }

// Forget removes a spool and its state, if they are there.
func Forget(spool string) error {
	var problems []error
	for _, name := range []string{stateName(spool), spool} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

func (d *Download) source() string {
	sum := sha256.Sum256([]byte(d.opts.URL))
	return hex.EncodeToString(sum[:])
}

// bootID is that of the running kernel (random(4)), "" if nobody knows.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

// note writes the state down if that much has come since it did so last, and has
// the disk begin with it. Only the stream calls it.
func (d *Download) note(least int64) error {
	at := d.position()
	if at-d.noted < least {
		return nil
	}
	if d.opts.Lasting {
		unix.SyncFileRange(int(d.spool.Fd()), d.noted, at-d.noted, unix.SYNC_FILE_RANGE_WRITE) // if that is not possible Keep does it
	}
	d.noted = at
	if d.version.condition() == "" {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.save(); err != nil {
		return final{err}
	}
	return nil
}

// save writes the state; the caller holds mu. It need not outlive the kernel.
func (d *Download) save() error {
	text, err := json.Marshal(state{Source: d.source(), Boot: bootID(), Have: d.there.end(0), version: d.version})
	if err != nil {
		return err
	}
	temporary := stateName(d.opts.Spool) + ".new"
	if err := os.WriteFile(temporary, text, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, stateName(d.opts.Spool))
}

// leftover is the state of a spool that can be gone on with, nil for none.
func (d *Download) leftover() *state {
	text, err := readOwn(stateName(d.opts.Spool))
	if err != nil {
		return nil
	}
	var s state
	if json.Unmarshal(text, &s) != nil || s.Source != d.source() || s.Boot == "" || s.Boot != bootID() {
		return nil
	}
	info, err := os.Lstat(d.opts.Spool)
	if err != nil || !own(info) || s.Have <= 0 || s.Have > s.Size || info.Size() < s.Have || s.condition() == "" {
		return nil
	}
	return &s
}

// readOwn reads a small file that nobody else could have written.
func readOwn(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !own(info) {
		err = fs.ErrPermission
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, 64<<10))
}

func own(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.Mode().IsRegular() && info.Mode().Perm()&0o022 == 0 && int(st.Uid) == os.Geteuid()
}

// begin asks for the file, from where an earlier download was left.
func (d *Download) begin() (*answer, error) {
	old := d.leftover()
	p := patience{Download: d, attempts: d.limits.begin, longest: d.limits.longest}
	for {
		a, err := d.first(old)
		if err == nil {
			return a, nil
		}
		if old != nil && permanent(err) {
			old = nil // whatever it was, it may be the part that the server does not like
			continue
		}
		if err := p.after(err, 0); err != nil {
			return nil, err
		}
	}
}

// first asks for what is missing of an old spool, nil for none, and opens it.
func (d *Download) first(old *state) (*answer, error) {
	if old == nil {
		a, err := d.ask(0, unknown, "")
		return d.opened(a, err, d.fresh)
	}
	a, err := d.ask(min(old.Have, old.Size-1), unknown, old.condition())
	if err != nil {
		return nil, err
	}
	if !a.part {
		return d.opened(a, nil, d.fresh) // it has changed
	}
	return d.opened(a, old.same(a.header, a.size), func(*answer) error { return d.adopt(old) })
}

// opened closes an answer if anything went wrong.
func (d *Download) opened(a *answer, err error, open func(*answer) error) (*answer, error) {
	if err == nil {
		err = open(a)
	}
	if err != nil && a != nil {
		a.close()
	}
	return a, err
}

// fresh begins a spool for what the server has announced.
func (d *Download) fresh(a *answer) (err error) {
	if a.size > d.opts.MaxBytes {
		return final{fmt.Errorf("the server announces %d bytes, more than the limit of %d", a.size, d.opts.MaxBytes)}
	}
	if err := d.mustFit(a.size); err != nil {
		return final{err}
	}
	if err := Forget(d.opts.Spool); err != nil {
		return final{err}
	}
	d.version = newVersion(a.header, a.size)
	d.ranges = d.version.condition() != "" && acceptsRanges(a.header)
	if d.spool, err = os.OpenFile(d.opts.Spool, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return final{err}
	}
	return nil
}

// adopt goes on with an old spool.
func (d *Download) adopt(old *state) (err error) {
	if err := d.mustFit(old.Size - old.Have); err != nil {
		return final{err}
	}
	if d.spool, err = os.OpenFile(d.opts.Spool, os.O_RDWR|unix.O_NOFOLLOW, 0); err != nil {
		return final{err}
	}
	d.version, d.ranges, d.noted = old.version, true, old.Have
	d.there.add(span{0, old.Have})
	d.opts.Log.Info("going on with an earlier download", "url", show(d.url), "at", old.Have, "of", old.Size)
	return nil
}

// mustFit is an error if so many more bytes have no room.
func (d *Download) mustFit(size int64) error {
	dir := filepath.Dir(d.opts.Spool)
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	if free := st.Bavail * uint64(st.Bsize); size > 0 && uint64(size) > free {
		return fmt.Errorf("the file needs %d bytes, %d are free in %s", size, free, dir)
	}
	return nil
}

// acceptsRanges is what a server may say before it is asked for any.
func acceptsRanges(h http.Header) bool { return !strings.EqualFold(h.Get("Accept-Ranges"), "none") }
