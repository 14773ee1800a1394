package entrypoint

import (
	"testing"

	"buildenv/artifacts"
)

func TestChangeLine(t *testing.T) {
	for _, test := range []struct {
		change artifacts.Change
		want   string
	}{
		{artifacts.Change{Kind: artifacts.Added, Path: "etc/new", Type: "file", Size: 7}, "added    file      etc/new (7 bytes)"},
		{artifacts.Change{Kind: artifacts.Removed, Path: "a\x1b[2Jb", Type: "symlink"}, `removed  symlink   "a\x1b[2Jb"`},
		{artifacts.Change{Kind: artifacts.Changed, Path: "ü\xff", Type: "file", Size: 2, Was: 1, What: []string{"content", "mode"}},
			`changed  file      "ü\xff" (content, mode; 2 bytes, was 1)`},
		{artifacts.Change{Kind: artifacts.Changed, Path: "var", Type: "directory", Lost: []string{"system.posix_acl_default"}},
			"changed  directory var (system.posix_acl_default will be lost)"},
	} {
		if got := changeLine(test.change); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}
