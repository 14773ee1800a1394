// Package layering holds no code, only the tests that keep the house in order:
// who may import whom, who may end the process or read its environment, and
// what the binary is made of.
package layering

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "accept the binary's dependencies as they are")

const module = "buildenv"

// top is the module's folder, seen from this one.
const top = "../.."

// file is one source file of the product, tests left out.
type file struct {
	name    string // from the module's folder
	pkg     string // import path without the module: "sshd/jail"
	imports []string
	syntax  *ast.File
}

// sources reads the product's files, whatever their build tags.
func sources(t *testing.T) []file {
	t.Helper()
	var files []file
	err := filepath.WalkDir(top, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != top && skipped(d.Name()) {
			return fs.SkipDir
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		f, err := read(name)
		files = append(files, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no source files found")
	}
	return files
}

// skipped are folders that the go command leaves out of ./... as well, and tools, a module of its own.
func skipped(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "tools"
}

func read(name string) (file, error) {
	syntax, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
	if err != nil {
		return file{}, err
	}
	rel, err := filepath.Rel(top, name)
	f := file{name: rel, pkg: path.Dir(filepath.ToSlash(rel)), syntax: syntax}
	for _, spec := range syntax.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return file{}, err
		}
		f.imports = append(f.imports, imported)
	}
	return f, err
}

// standard tells packages of the standard library: the first part of their
// path has no dot, and is not this module's name.
func standard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return first != module && !strings.Contains(first, ".")
}

func TestImports(t *testing.T) {
	for _, f := range sources(t) {
		allowed, known := room(f.pkg)
		if !known {
			t.Errorf("%s: package %s is not in the table; give it a row in rooms_test.go", f.name, f.pkg)
			continue
		}
		for _, imported := range f.imports {
			if !standard(imported) && !within(imported, allowed) && !within(imported, everywhere) {
				t.Errorf("%s: %s may not import %s", f.name, f.pkg, imported)
			}
		}
	}
}

// TestStrangers follows imports all the way: what must not know of each other
// must not do so by way of a third either.
func TestStrangers(t *testing.T) {
	direct := map[string][]string{}
	for _, f := range sources(t) {
		for _, imported := range f.imports {
			if inside, ok := strings.CutPrefix(imported, module+"/"); ok {
				direct[f.pkg] = append(direct[f.pkg], inside)
			}
		}
	}
	for pkg := range direct {
		for _, reached := range closure(direct, pkg) {
			for _, pair := range strangers {
				if below(pkg, pair.of) && below(reached, pair.to) {
					t.Errorf("%s reaches %s: %s must not depend on %s", pkg, reached, pair.of, pair.to)
				}
			}
		}
	}
}

func closure(direct map[string][]string, pkg string) []string {
	var reached []string
	next := slices.Clone(direct[pkg])
	for len(next) > 0 {
		last := next[len(next)-1]
		next = next[:len(next)-1]
		if !slices.Contains(reached, last) {
			reached = append(reached, last)
			next = append(next, direct[last]...)
		}
	}
	return reached
}

func TestCalls(t *testing.T) {
	for _, f := range sources(t) {
		for _, name := range uses(f.syntax) {
			if owner, reserved := reservedFor[name]; reserved && !below(f.pkg, owner) {
				t.Errorf("%s: only %s may use %s", f.name, owner, name)
			}
		}
	}
}

// uses lists what a file takes from other packages, as "import/path.Name".
func uses(f *ast.File) []string {
	names := map[string]string{}
	for _, spec := range f.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		name := path.Base(imported)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = imported
	}
	var used []string
	ast.Inspect(f, func(n ast.Node) bool {
		if selector, ok := n.(*ast.SelectorExpr); ok {
			if base, ok := selector.X.(*ast.Ident); ok && names[base.Name] != "" {
				used = append(used, names[base.Name]+"."+selector.Sel.Name)
			}
		}
		return true
	})
	return used
}

// TestDependencies compares the packages of other modules that the binary
// holds with a golden file, so that a new one is seen when a change is read.
func TestDependencies(t *testing.T) {
	const golden = "testdata/deps.golden"
	list := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./cmd/buildenv")
	list.Dir = top
	list.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0")
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	deps := slices.DeleteFunc(strings.Fields(string(out)), func(p string) bool {
		return strings.HasPrefix(p, module+"/")
	})
	slices.Sort(deps)
	got := strings.Join(deps, "\n") + "\n"
	if *update {
		if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatalf("%v; try: make golden", err)
	}
	for _, dep := range deps {
		if !slices.Contains(strings.Fields(string(want)), dep) {
			t.Errorf("new in the binary: %s; give the reason in the commit and run: make golden", dep)
		}
	}
	for dep := range strings.FieldsSeq(string(want)) {
		if !slices.Contains(deps, dep) {
			t.Errorf("no longer in the binary: %s; run: make golden", dep)
		}
	}
}
