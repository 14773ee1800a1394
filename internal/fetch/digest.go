package fetch

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

// verify follows the stream through the spool, so that the digest is known when
// the last byte has come.
func (d *Download) verify() error {
	if d.opts.MD5 == "" {
		return nil
	}
	sum := md5.New()
	piece := make([]byte, buffer)
	for at := int64(0); ; {
		end, more := d.follow(at)
		if !more {
			break
		}
		if _, err := io.CopyBuffer(sum, onlyReader{io.NewSectionReader(d.spool, at, end-at)}, piece); err != nil {
			return final{err}
		}
		at = end
	}
	d.mu.Lock()
	failed := d.err
	d.mu.Unlock()
	if got := hex.EncodeToString(sum.Sum(nil)); failed == nil && !strings.EqualFold(got, d.opts.MD5) {
		return final{fmt.Errorf("its MD5 is %s, expected is %s", got, strings.ToLower(d.opts.MD5))}
	}
	return nil
}

// onlyReader hides what would make io.CopyBuffer use a buffer of its own.
type onlyReader struct{ io.Reader }

// follow waits until more is there than up to an offset; false if no more comes.
func (d *Download) follow(at int64) (end int64, more bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.err == nil {
		if end := d.there.end(0); end > at {
			return end, true
		}
		if at == d.version.Size {
			break
		}
		d.changed.Wait()
	}
	return at, false
}
