package agent

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"buildenv/artifacts"
)

// changes is a report that is to be stored. It is on disk, where it lasts as long
// as the archive does.
type changes struct {
	path   string
	size   int64
	md5    string
	totals artifacts.ChangeTotals
}

// compare makes the report of what has changed, nil if there is nothing to compare
// with. That it cannot be made is no reason to have no image.
func (p *Publisher) compare(ctx context.Context, root string) (*changes, error) {
	if p.Changes == nil || p.Pack.From == "" {
		return nil, nil
	}
	c := &changes{path: filepath.Join(p.WorkDir, archiveFolder, artifacts.ChangesName)}
	if err := p.report(ctx, root, c); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		p.Log.Warn("there is no report of changes", "error", err)
		return nil, nil
	}
	p.Log.Info("compared with the source", "added", c.totals.Added, "removed", c.totals.Removed, "changed", c.totals.Changed)
	return c, nil
}

func (p *Publisher) report(ctx context.Context, root string, c *changes) error {
	f, err := os.OpenFile(c.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	hash := md5.New()
	counted := &counter{w: io.MultiWriter(f, hash)}
	report := artifacts.NewChangeReport(counted)
	if err := p.Changes(ctx, root, p.Pack, report.Add); err != nil {
		return err
	}
	if err := report.Close(); err != nil {
		return err
	}
	c.size, c.md5, c.totals = counted.n, hex.EncodeToString(hash.Sum(nil)), report.Totals
	return f.Close()
}

// counter counts what is written.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// store puts the report beside where the manifest will be.
func (c *changes) store(ctx context.Context, p *Publisher, image string) error {
	if c == nil {
		return nil
	}
	f, err := os.Open(c.path)
	if err != nil {
		return fmt.Errorf("open the report of changes: %w", err)
	}
	defer f.Close()
	key := image + "/" + artifacts.ChangesName
	if _, err := p.Store.Put(ctx, key, f, c.size, map[string]string{"md5sum": c.md5}); err != nil {
		return fmt.Errorf("store %s: %w", key, err)
	}
	return nil
}
