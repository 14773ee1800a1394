package jail

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// trusted is a directory whose parents pass: the usual ones for temporary
// files are writable by everybody.
func trusted(t *testing.T) string {
	if os.Geteuid() != 0 {
		t.Skip("needs root to own a path down from /")
	}
	dir, err := os.MkdirTemp("/var/lib", "buildenv-test-")
	if err != nil {
		t.Skipf("needs a directory of root's: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestCheckPath(t *testing.T) {
	dir := trusted(t)
	root := filepath.Join(dir, "parent", "image-root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	parent := filepath.Dir(root)
	for name, c := range map[string]struct {
		path   string
		mode   os.FileMode // of parent
		owner  int
		wanted string // "" for none
	}{
		"good":             {root, 0o755, 0, ""},
		"trailing slash":   {root + "/", 0o755, 0, ""},
		"private":          {root, 0o700, 0, ""},
		"group may write":  {root, 0o775, 0, `directory component "` + parent + `": try chmod go-w ` + parent},
		"others may write": {root, 0o757, 0, "try chmod go-w " + parent},
		"somebody else's":  {root, 0o755, 1000, "try chown root " + parent},
		"missing":          {filepath.Join(root, "no"), 0o755, 0, "no such file"},
		"relative":         {"image-root", 0o755, 0, "is not absolute"},
		"empty":            {"", 0o755, 0, "is not absolute"},
		"file":             {filepath.Join(dir, "file"), 0o755, 0, "is not a directory"},
		"the root":         {"/", 0o755, 0, ""},
	} {
		if err := os.Chmod(parent, c.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(parent, c.owner, 0); err != nil {
			t.Fatal(err)
		}
		err := CheckPath(c.path)
		if (err == nil) != (c.wanted == "") || err != nil && !strings.Contains(err.Error(), c.wanted) {
			t.Errorf("%s: %v, want %q", name, err, c.wanted)
		}
	}
}
