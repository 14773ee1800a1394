package dir

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestWhoeverIsAloneSweeps(t *testing.T) {
	folder := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	litter := func() {
		must(t, os.WriteFile(filepath.Join(folder, newPrefix+"HALF"), nil, 0o644))
		must(t, os.MkdirAll(filepath.Join(folder, WorkPrefix+"package-1", "archive"), 0o755))
	}
	litter()
	first, err := New(folder, "boot-images", log)
	must(t, err)
	wantEntries(t, folder)

	// Not alone: it may be the other one's work.
	litter()
	second, err := New(folder, "boot-images", log)
	must(t, err)
	wantEntries(t, folder, WorkPrefix+"package-1", newPrefix+"HALF")

	must(t, first.Close())
	must(t, second.Close())
	third, err := New(folder, "boot-images", log)
	must(t, err)
	defer third.Close()
	wantEntries(t, folder)
}

func wantEntries(t *testing.T, folder string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	must(t, err)
	var got []string
	for _, entry := range entries {
		got = append(got, fs.DirEntry.Name(entry))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the folder holds %q, want %q", got, want)
	}
}
