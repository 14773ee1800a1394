package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestScripts(t *testing.T) {
	binary := buildenv(t)
	testscript.Run(t, testscript.Params{
		Dir:         "testdata",
		WorkdirRoot: workFolder(t),
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", filepath.Dir(binary)+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("GOCOVERDIR", os.Getenv(coverFolder))
			env.Setenv("DEBIAN_ROOT", debianRoot())
			env.Setenv("GOCACHE", goCache())
			return setUpSSH(env)
		},
		Condition:           condition,
		Cmds:                commands,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// buildenv is the path of the binary under test. Its name is buildenv.
func buildenv(t *testing.T) string {
	t.Helper()
	dependOnSources(t)
	binary, err := builtBinary()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// builtBinary takes the binary that BUILDENV_BINARY names or builds it, with
// counters of coverage when BUILDENV_COVERDIR says where they shall go (not
// GOCOVERDIR: go test gives that one a meaning of its own).
var builtBinary = sync.OnceValues(func() (string, error) {
	if given := os.Getenv("BUILDENV_BINARY"); given != "" {
		return filepath.Abs(given)
	}
	args := []string{"build", "-trimpath", "-o", filepath.Join(binaryFolder, "buildenv")}
	if os.Getenv(coverFolder) != "" {
		args = append(args, "-cover")
	}
	build := exec.Command("go", append(args, "buildenv/cmd/buildenv")...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	return filepath.Join(binaryFolder, "buildenv"), build.Run()
})

const coverFolder = "BUILDENV_COVERDIR"

var binaryFolder string

func TestMain(m *testing.M) {
	os.Exit(runTests(m))
}

// testFolder is where root's tests work: a jail must not lie below a folder that
// everybody may write to, and strict modes forbid the same of keys.
const testFolder = "/var/cache/buildenv-e2e"

func runTests(m *testing.M) int {
	if os.Geteuid() == 0 {
		if err := os.MkdirAll(testFolder, 0o755); err != nil {
			panic(err)
		}
		os.Setenv("TMPDIR", testFolder)
	}
	dir, err := os.MkdirTemp("", "buildenv-e2e-*")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	binaryFolder = dir
	return m.Run()
}

// dependOnSources looks at every source file of the product. go test caches a
// result for as long as the files that the test looked at are the same, and
// knows nothing of what the go command reads that builds the binary.
func dependOnSources(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != ".." && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".go") {
			_, err = os.Stat(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// debianRoot is the root that tools/debian-root has made, "" for none.
func debianRoot() string {
	cache := os.Getenv("BUILDENV_CACHE")
	if cache == "" {
		cache = filepath.Join("..", ".cache")
	}
	root, err := filepath.Abs(filepath.Join(cache, "debian-root"))
	if err != nil {
		return ""
	}
	if _, err := os.Stat(root); err != nil {
		return ""
	}
	return root
}

// goCache is where the go command keeps what it has compiled: a script has
// another home, and would compile the standard library anew.
func goCache() string {
	if cache := os.Getenv("GOCACHE"); cache != "" {
		return cache
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(cache, "go-build")
}

func condition(name string) (bool, error) {
	switch name {
	case "root":
		return os.Geteuid() == 0, nil
	case "binfmt":
		return canBinfmt(), nil
	case "debian-root":
		return debianRoot() != "", nil
	}
	return false, fmt.Errorf("no such condition: %s", name)
}
