package entrypoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"unicode"
	"unicode/utf8"

	"buildenv/artifacts"
	"buildenv/artifacts/squashfs"
)

// comparing is how a publisher finds what has changed.
func comparing(log *slog.Logger) func(context.Context, string, artifacts.PackOptions, func(artifacts.Change) error) error {
	return func(ctx context.Context, root string, pack artifacts.PackOptions, visit func(artifacts.Change) error) error {
		return squashfs.Compare(ctx, root, pack, log, visit)
	}
}

// showChanges tells what the job's image root does not have as its source has it.
func (f *foundJob) showChanges(ctx context.Context, out io.Writer, log *slog.Logger, asJSON bool) error {
	cfg, err := readEnvironment()
	if err != nil {
		return usageError{err}
	}
	if err := mustShow(f.Root); err != nil {
		return fmt.Errorf("show changes: %w", err)
	}
	pack := reusing(cfg.packOptions(artifacts.PackOptions{}), f.Root)
	if pack.From == "" {
		return errors.New("show changes: the squashfs that the image root was unpacked from is not here: it was not kept (KEEP_SOURCE), is of another kind, or lies outside this jail")
	}
	if asJSON {
		report := artifacts.NewChangeReport(out)
		if err := squashfs.Compare(ctx, f.Root, pack, log, report.Add); err != nil {
			return err
		}
		return report.Close()
	}
	var totals artifacts.ChangeTotals
	err = squashfs.Compare(ctx, f.Root, pack, log, func(c artifacts.Change) error {
		totals.Add(c)
		_, err := fmt.Fprintln(out, changeLine(c))
		return err
	})
	if err == nil {
		_, err = fmt.Fprintln(out, totalsLine(totals))
	}
	return err
}

// changeLine is a change for people. Names may hold anything; what a terminal
// would obey is quoted.
func changeLine(c artifacts.Change) string {
	var about []string
	if len(c.What) > 0 {
		about = append(about, strings.Join(c.What, ", "))
	}
	switch {
	case c.Type != "file":
	case c.Kind == artifacts.Changed && c.Was != c.Size:
		about = append(about, fmt.Sprintf("%d bytes, was %d", c.Size, c.Was))
	default:
		about = append(about, fmt.Sprintf("%d bytes", c.Size))
	}
	for _, name := range c.Lost {
		about = append(about, shownName(name)+" will be lost")
	}
	line := fmt.Sprintf("%-8s %-9s %s", c.Kind, c.Type, shownName(c.Path))
	if len(about) > 0 {
		line += " (" + strings.Join(about, "; ") + ")"
	}
	return line
}

// shownName is a name that may be shown on a terminal.
func shownName(name string) string {
	plain := utf8.ValidString(name) && !strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || r == '"' })
	if plain {
		return name
	}
	return fmt.Sprintf("%q", name)
}

func totalsLine(t artifacts.ChangeTotals) string {
	line := fmt.Sprintf("%d added (%d bytes), %d removed (%d bytes), %d changed (content of %d bytes)",
		t.Added, t.AddedBytes, t.Removed, t.RemovedBytes, t.Changed, t.ChangedBytes)
	if t.Hidden > 0 {
		line += fmt.Sprintf(", %d hidden by mounts", t.Hidden)
	}
	if t.Lost > 0 {
		line += fmt.Sprintf(", %d with attributes that squashfs cannot hold", t.Lost)
	}
	return line
}
