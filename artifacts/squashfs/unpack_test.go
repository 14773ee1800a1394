package squashfs

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"buildenv/artifacts"
)

func TestUnpackRefuses(t *testing.T) {
	needTools(t)
	var log bytes.Buffer
	archive := filepath.Join(t.TempDir(), "a")
	must(t, packer(&log).Pack(t.Context(), makeRoot(t), archive, artifacts.PackOptions{}))
	content, err := os.ReadFile(archive)
	must(t, err)
	write := func(data []byte) string {
		name := filepath.Join(t.TempDir(), "bad")
		must(t, os.WriteFile(name, data, 0o644))
		return name
	}
	full := t.TempDir()
	must(t, os.WriteFile(filepath.Join(full, "precious"), nil, 0o644))
	tests := []struct{ name, archive, dir, want string }{
		{"no archive", archive + "-none", "", "no such file or directory"},
		{"truncated", write(content[:len(content)/2]), "", "unsquashfs: "},
		{"empty", write(nil), "", "unsquashfs: "},
		{"something else", write(bytes.Repeat([]byte("squash"), 1000)), "", "unsquashfs: "},
		{"a directory in use", archive, full, full + ": not an empty directory"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			parent := t.TempDir()
			if test.dir == "" {
				test.dir = filepath.Join(parent, "tree")
			}
			err := Unpack(t.Context(), test.archive, test.dir, UnpackOptions{})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			wantOnly(t, parent)
		})
	}
	wantOnly(t, full, "precious")
}

func TestUnpackIntoAnEmptyDirectory(t *testing.T) {
	needTools(t)
	root, dir := makeRoot(t), t.TempDir()
	archive := filepath.Join(t.TempDir(), "a")
	must(t, Packer{Log: slog.New(slog.DiscardHandler)}.Pack(t.Context(), root, archive, artifacts.PackOptions{}))
	must(t, Unpack(t.Context(), archive, dir, UnpackOptions{}))
	wantSame(t, root, dir)
}

// A tool that has begun and never ends stands in for the real one, which is
// too fast to be caught half-way.
func TestCancelledUnpackLeavesNothing(t *testing.T) {
	script := `#!/bin/sh
while [ "$1" != -dest ]; do shift; done
mkdir "$2" && echo half > "$2/half" && exec sleep 1000
`
	tools := t.TempDir()
	must(t, os.WriteFile(filepath.Join(tools, "unsquashfs"), []byte(script), 0o755))
	t.Setenv("PATH", tools+":"+os.Getenv("PATH"))
	archive := filepath.Join(t.TempDir(), "a")
	must(t, os.WriteFile(archive, []byte("content"), 0o644))

	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	began := false
	err := Unpack(ctx, archive, filepath.Join(dir, "tree"), UnpackOptions{Progress: func(int64) {
		halves, _ := filepath.Glob(filepath.Join(dir, ".tree.tmp-*", "root", "half"))
		if began = len(halves) == 1; began {
			cancel()
		}
	}})
	if !began || !errors.Is(err, context.Canceled) {
		t.Errorf("began %v, error %v, want context.Canceled half-way", began, err)
	}
	wantOnly(t, dir)
}
