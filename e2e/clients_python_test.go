package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"buildenv/internal/treediff"
)

// workPython runs the script of the client's name, which sends the tree, fetches
// it again, and looks at what else its library can do.
func workPython(t *testing.T, v *visit) {
	if _, _, code := v.try(t, nil, python, "-W", "ignore", "-c", "import "+v.client); code != 0 {
		t.Skipf("no python3-%s; try: tools/setup e2e", v.client)
	}
	script := filepath.Join("testdata/clients", "with_"+v.client+".py")
	v.use(t, nil, python, "-B", "-W", "ignore", script, v.port, v.key, v.hostKey+".pub", v.tree, v.folder, v.mine)
	wantSame(t, v.tree, v.here(v.at("tree")))
	wantSame(t, v.tree, v.own("back"))
	wantFile(t, v.here(v.at("renamed")), "second\n", os.FileMode(0o604))
	if v.client == "asyncssh" {
		wantDiff(t, treediff.DiffSeconds, v.tree, v.here(v.at("tree")))
	}
}
