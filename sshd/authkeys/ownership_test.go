package authkeys

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// home makes HOME/.ssh/authorized_keys with safe modes.
func home(t *testing.T) (dir, file string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "home")
	if err := os.MkdirAll(filepath.Join(dir, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, ".ssh", "authorized_keys")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, file
}

func TestCheckOwnership(t *testing.T) {
	const stranger = 4711
	tests := []struct {
		name    string
		spoil   func(t *testing.T, dir, file string)
		refusal string // with DIR for the home directory
	}{
		{"safe", func(*testing.T, string, string) {}, ""},
		{"file writable by its group", func(t *testing.T, _, file string) { chmod(t, file, 0o620) }, "bad ownership or modes for file DIR/.ssh/authorized_keys: its mode is 0620: run chmod go-w"},
		{"directory writable by others", func(t *testing.T, dir, _ string) { chmod(t, dir+"/.ssh", 0o702) }, "bad ownership or modes for directory DIR/.ssh: its mode is 0702"},
		{"home writable by its group", func(t *testing.T, dir, _ string) { chmod(t, dir, 0o770) }, "bad ownership or modes for directory DIR: its mode"},
		{"above home does not matter", func(t *testing.T, dir, _ string) { chmod(t, filepath.Dir(dir), 0o777) }, ""},
		{"file of a stranger", func(t *testing.T, _, file string) { chown(t, file, stranger) }, "it belongs to uid 4711: run chown 0 DIR/.ssh/authorized_keys"},
		{"directory of a stranger", func(t *testing.T, dir, _ string) { chown(t, dir+"/.ssh", stranger) }, "bad ownership or modes for directory DIR/.ssh: it belongs"},
		{"a directory for a file", func(t *testing.T, _, file string) {
			os.Remove(file)
			if err := os.Mkdir(file, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "authorized_keys is not a regular file"},
		{"missing", func(_ *testing.T, _, file string) { os.Remove(file) }, "no such file"},
		{"link to an unsafe file", func(t *testing.T, dir, file string) {
			os.Rename(file, dir+"/real")
			chmod(t, dir+"/real", 0o606)
			if err := os.Symlink(dir+"/real", file); err != nil {
				t.Fatal(err)
			}
		}, "bad ownership or modes for file DIR/real"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, file := home(t)
			tt.spoil(t, dir, file)
			err := CheckOwnership(file, dir, os.Getuid())
			want := strings.ReplaceAll(tt.refusal, "DIR", dir)
			switch {
			case want == "" && err != nil:
				t.Error(err)
			case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
				t.Errorf("got %v, want %q", err, want)
			}
		})
	}
}

func TestCheckOwnershipOutsideHomeGoesUpToTheRoot(t *testing.T) {
	dir, file := home(t)
	chmod(t, filepath.Dir(dir), 0o777)
	err := CheckOwnership(file, "/nonexistent", os.Getuid())
	if want := "bad ownership or modes for directory " + filepath.Dir(dir); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestCheckOwnershipTakesRootsFilesForAnyUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes files that belong to root")
	}
	dir, file := home(t)
	if err := CheckOwnership(file, dir, 4711); err != nil {
		t.Error(err)
	}
}

func chmod(t *testing.T, name string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

func chown(t *testing.T, name string, uid int) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: gives a file away")
	}
	if err := os.Chown(name, uid, -1); err != nil {
		t.Fatal(err)
	}
}
