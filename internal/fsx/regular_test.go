package fsx_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"buildenv/internal/fsx"
)

func TestOpenRegularNeverWaits(t *testing.T) {
	dir := t.TempDir()
	file, fifo := filepath.Join(dir, "file"), filepath.Join(dir, "fifo")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(fifo, 0o600); err != nil { // nobody writes to it
		t.Fatal(err)
	}
	for name, want := range map[string]bool{file: true, fifo: false, dir: false, filepath.Join(dir, "none"): false} {
		f, err := fsx.OpenRegular(name)
		if (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			f.Close()
		}
	}
}
