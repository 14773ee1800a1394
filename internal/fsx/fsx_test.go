package fsx

import (
	"os"
	"path/filepath"
	"testing"
)

func TestRemoveLeft(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "file[x]")
	left, err := Create(name, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	left.Close() // as when the process is killed
	for _, other := range []string{name, filepath.Join(dir, ".file.tmp-1"), filepath.Join(dir, "file[x].tmp-1")} {
		if err := WriteFile(other, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := RemoveLeft(name); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if _, gone := os.Lstat(left.Name()); err != nil || len(entries) != 3 || !os.IsNotExist(gone) {
		t.Errorf("left %v, %v, %v", entries, err, gone)
	}
}
