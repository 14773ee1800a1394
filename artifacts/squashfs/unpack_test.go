package squashfs

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
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
		{"truncated", write(content[:len(content)/2]), "", "malformed squashfs archive: truncated"},
		{"empty", write(nil), "", "malformed squashfs archive: truncated: 0 bytes"},
		{"something else", write(bytes.Repeat([]byte("squash"), 1000)), "", `malformed squashfs archive: it does not begin with "hsqs"`},
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

func TestCancelledUnpackLeavesNothing(t *testing.T) {
	needTools(t)
	root := t.TempDir()
	noise := make([]byte, 1<<20)
	rand.Read(noise)
	for i := range 64 {
		noise[0] = byte(i)
		must(t, os.WriteFile(filepath.Join(root, fmt.Sprint(i)), noise, 0o644))
	}
	archive := filepath.Join(t.TempDir(), "a")
	must(t, Packer{Log: slog.New(slog.DiscardHandler)}.Pack(t.Context(), root, archive, artifacts.PackOptions{}))

	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	entries := 0
	err := Unpack(ctx, archive, filepath.Join(dir, "tree"), UnpackOptions{Allow: func(int64) error {
		if entries++; entries == 10 {
			cancel()
		}
		return nil
	}})
	if !errors.Is(err, context.Canceled) || entries > 20 {
		t.Errorf("%d entries, error %v, want context.Canceled half-way", entries, err)
	}
	wantOnly(t, dir)
}
