package squashfs

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"buildenv/artifacts"
)

// Whatever an archive says, readying it to be mounted and comparing a root with it
// end, with an error or without.
func FuzzLower(f *testing.F) {
	archives := seedArchives(f)
	for i := range archives {
		f.Add(i, uint16(0), []byte(nil))
		f.Add(i, uint16(100), []byte{1})
	}
	dir := f.TempDir()
	root := func(which int) string { return filepath.Join(dir, fmt.Sprint("root-", which)) }
	for i, archive := range archives {
		a, err := Open(bytes.NewReader(archive))
		if err := errors.Join(err, a.Unpack(f.Context(), root(i), UnpackOptions{Processors: 1})); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, which int, at uint16, change []byte) {
		which = int(uint(which) % uint(len(archives)))
		archive := bytes.Clone(archives[which])
		for i, b := range change {
			archive[(int(at)+i)%len(archive)] ^= b
		}
		if a, err := Open(bytes.NewReader(archive)); err == nil {
			limit := 1000
			err := a.checkLower([]string{"fixed"}, UnpackOptions{Allow: func(int64) error {
				if limit--; limit < 0 {
					return errTooLong
				}
				return nil
			}})
			if len(change) == 0 && err != nil {
				t.Error(err)
			}
		}
		name := filepath.Join(t.TempDir(), "archive")
		must(t, os.WriteFile(name, archive, 0o600))
		changes := 0
		err := Compare(t.Context(), root(which), artifacts.PackOptions{From: name, Processors: 1}, slog.New(slog.DiscardHandler), func(artifacts.Change) error {
			if changes++; changes > 100_000 {
				return errTooLong
			}
			return nil
		})
		if len(change) == 0 && (err != nil || changes > 0) {
			t.Errorf("%d changes of nothing; %v", changes, err)
		}
	})
}
