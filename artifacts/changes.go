package artifacts

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// ChangesName is the object name of an image's report of changes, beside its
// manifest.
const ChangesName = "changes.json"

// ChangeKind says what has become of a path.
type ChangeKind string

// What may have become of it. A path whose type has changed is changed; what a
// directory held that is none any more is removed.
const (
	Added   ChangeKind = "added"
	Removed ChangeKind = "removed"
	Changed ChangeKind = "changed"
	// Hidden is a directory on which something is mounted: what lies below it can
	// be neither compared nor packed.
	Hidden ChangeKind = "hidden"
)

// Change is one path that an image root does not have as its source has it.
type Change struct {
	Kind ChangeKind
	Path string // below the root, "." for that itself; any bytes but NUL
	Type string // file, directory, symlink, block, char, fifo or socket; of what was removed, what it was
	Size int64  // bytes of a file's content; of what was removed, what it was
	// Was is the size before, if Kind is Changed.
	Was int64
	// What has changed: type, content, target, device, owner, mode, mtime, xattr.
	What []string
	// Lost are extended attributes that the root has and no squashfs can hold.
	Lost []string
}

// changeJSON is a Change in a report. JSON holds UTF-8 only: of another path each
// byte that is none is shown as U+FFFD, and PathBytes, in base64, is the path.
type changeJSON struct {
	Kind      ChangeKind `json:"change"`
	Path      string     `json:"path"`
	PathBytes []byte     `json:"path_bytes,omitempty"`
	Type      string     `json:"type"`
	Size      int64      `json:"size"`
	Was       *int64     `json:"was,omitempty"`
	What      []string   `json:"what,omitempty"`
	Lost      []string   `json:"lost,omitempty"`
}

// MarshalJSON is the change as it stands in a report.
func (c Change) MarshalJSON() ([]byte, error) {
	j := changeJSON{Kind: c.Kind, Path: c.Path, Type: c.Type, Size: c.Size, What: c.What}
	for _, name := range c.Lost {
		j.Lost = append(j.Lost, validText(name))
	}
	if !utf8.ValidString(c.Path) {
		j.Path, j.PathBytes = validText(c.Path), []byte(c.Path)
	}
	if c.Kind == Changed {
		j.Was = &c.Was
	}
	return json.Marshal(j)
}

// validText is text with U+FFFD for each byte that is not UTF-8.
func validText(text string) string {
	var b strings.Builder
	for _, r := range text { // which is what range makes of such a byte
		b.WriteRune(r)
	}
	return b.String()
}

// ChangeTotals are the numbers of a report, and the bytes that files with such a
// change have: after it, or before it if they were removed.
type ChangeTotals struct {
	Added        int64 `json:"added"`
	AddedBytes   int64 `json:"added_bytes"`
	Removed      int64 `json:"removed"`
	RemovedBytes int64 `json:"removed_bytes"`
	Changed      int64 `json:"changed"`
	ChangedBytes int64 `json:"changed_bytes"` // of files whose content has changed
	Hidden       int64 `json:"hidden,omitempty"`
	Lost         int64 `json:"lost,omitempty"` // paths that lose attributes
}

// Add counts a change.
func (t *ChangeTotals) Add(c Change) {
	switch c.Kind {
	case Added:
		t.Added++
		t.AddedBytes += c.Size
	case Removed:
		t.Removed++
		t.RemovedBytes += c.Size
	case Changed:
		t.Changed++
		t.ChangedBytes += c.changedBytes()
	case Hidden:
		t.Hidden++
	}
	if len(c.Lost) > 0 {
		t.Lost++
	}
}

func (c Change) changedBytes() int64 {
	for _, what := range c.What {
		if what == "content" || what == "type" {
			return c.Size
		}
	}
	return 0
}

// ChangeReport writes a report of changes as they are found: it is as long as
// the root is large, and is never in memory.
//
//	{"version": "1.0", "changes": [ … ], "totals": { … }}
type ChangeReport struct {
	Totals ChangeTotals
	out    *bufio.Writer
}

// NewChangeReport begins a report. Its end is Close.
func NewChangeReport(w io.Writer) *ChangeReport {
	r := &ChangeReport{out: bufio.NewWriter(w)}
	r.out.WriteString(`{"version": "1.0", "changes": [`) // the writer keeps the first error for Flush
	return r
}

// Add adds a change to the report.
func (r *ChangeReport) Add(c Change) error {
	text, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode change: %w", err)
	}
	if r.Totals != (ChangeTotals{}) {
		r.out.WriteByte(',')
	}
	r.Totals.Add(c)
	r.out.WriteString("\n")
	_, err = r.out.Write(text)
	return err
}

// Close ends the report. It does not close what it was written to.
func (r *ChangeReport) Close() error {
	text, err := json.Marshal(r.Totals)
	if err != nil {
		return fmt.Errorf("encode changes: %w", err)
	}
	fmt.Fprintf(r.out, "\n], \"totals\": %s}\n", text)
	return r.out.Flush()
}
