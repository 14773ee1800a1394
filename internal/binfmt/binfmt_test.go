package binfmt

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// described is how the kernel describes the handler of aarch64.
const described = `enabled
interpreter /usr/bin/qemu-aarch64-static
flags: F
offset 0
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
`

func TestServes(t *testing.T) {
	for name, c := range map[string]struct {
		old, new string // replaced in described
		serves   bool
	}{
		"as registered here":         {"", "", true},
		"more flags":                 {"flags: F", "flags: POCF", true},
		"another interpreter":        {"/usr/bin/qemu-aarch64-static", "/usr/libexec/qemu-binfmt/aarch64-binfmt-P", true},
		"disabled":                   {"enabled", "disabled", false},
		"emulator opened on demand":  {"flags: F", "flags: OC", false},
		"another architecture":       {"0200b700", "02002800", false},
		"an extension, with no word": {"offset 0\nmagic 7f454c460201010000000000000000000200b700", "extension .aarch64", false},
		"nothing":                    {described, "", false},
		"the state of binfmt_misc":   {described, "enabled\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			description := strings.Replace(described, c.old, c.new, 1)
			if got := AArch64.serves(description); got != c.serves {
				t.Errorf("serves %v, want %v:\n%s", got, c.serves, description)
			}
		})
	}
}

func TestEscape(t *testing.T) {
	for digits, want := range map[string]string{
		"":         "",
		"00":       `\x00`,
		"7f454c46": `\x7f\x45\x4c\x46`,
	} {
		if got := escape(digits); got != want {
			t.Errorf("escape(%q) = %q, want %q", digits, got, want)
		}
	}
}

// unused is a handler for files that nobody has, of which a machine is sure to
// have no registration. Its interpreter need only be there.
var unused = Handler{
	Name:        fmt.Sprintf("buildenv-test-%d", os.Getpid()),
	Magic:       "006275696c64656e7600ff",
	Mask:        "ffffffffffffffffffffff",
	Interpreter: "/proc/self/exe",
}

// binfmtMisc is binfmt_misc for a test to look at, wherever it is mounted; what
// the test registers is taken out at its end.
func binfmtMisc(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to register handlers")
	}
	dir, err := open()
	if err != nil {
		t.Skipf("needs binfmt_misc: %v", err)
	}
	path := fmt.Sprintf("/proc/self/fd/%d", dir.Fd())
	t.Cleanup(func() {
		for _, name := range handlers(t, path) {
			write(t, filepath.Join(path, name), "-1")
		}
		dir.Close()
	})
	return path
}

// handlers are the names of the registrations of the tests.
func handlers(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		if strings.Contains(entry.Name(), unused.Name) {
			names = append(names, entry.Name())
		}
	}
	return names
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0); err != nil {
		t.Fatal(err)
	}
}

func register(t *testing.T, h Handler) {
	t.Helper()
	release, err := h.Register()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
}

func TestRegister(t *testing.T) {
	dir := binfmtMisc(t)
	register(t, unused)
	text, err := os.ReadFile(filepath.Join(dir, unused.Name))
	if err != nil {
		t.Fatal(err)
	}
	if !unused.serves(string(text)) {
		t.Errorf("the kernel has it as\n%s", text)
	}
	for _, line := range []string{"mask " + unused.Mask, "interpreter " + unused.Interpreter, "offset 0"} {
		if !strings.Contains(string(text), line+"\n") {
			t.Errorf("no line %q in\n%s", line, text)
		}
	}
	register(t, unused)
	if names := handlers(t, dir); len(names) != 1 {
		t.Errorf("registered again: %q", names)
	}
}

func TestRegisterIsContentWithAnotherName(t *testing.T) {
	dir := binfmtMisc(t)
	distribution := unused
	distribution.Name = "distribution-" + unused.Name
	register(t, distribution)
	register(t, unused)
	if names := handlers(t, dir); len(names) != 1 {
		t.Errorf("registered again: %q", names)
	}
}

func TestRegisterBesideOneThatWillNotDo(t *testing.T) {
	dir := binfmtMisc(t)
	register(t, unused)
	write(t, filepath.Join(dir, unused.Name), "0") // disabled
	register(t, unused)
	text, err := os.ReadFile(filepath.Join(dir, "buildenv-"+unused.Name))
	if err != nil || !unused.serves(string(text)) {
		t.Errorf("no handler of another name: %v\n%s", err, text)
	}
}

func TestRegisterWithoutTheInterpreter(t *testing.T) {
	dir := binfmtMisc(t)
	missing := unused
	missing.Interpreter = filepath.Join(t.TempDir(), "qemu")
	_, err := missing.Register()
	if err == nil || !strings.Contains(err.Error(), missing.Interpreter) || !strings.Contains(err.Error(), "install qemu-user-static") {
		t.Errorf("error %v, want the interpreter's name and what to install", err)
	}
	if names := handlers(t, dir); len(names) != 0 {
		t.Errorf("registered nevertheless: %q", names)
	}
}

// TestRegisterLeavesNoMount: what a job mounts would outlive it when it is killed.
func TestRegisterLeavesNoMount(t *testing.T) {
	binfmtMisc(t)
	var before, after unix.Statfs_t
	if err := unix.Statfs(Dir, &before); err != nil {
		t.Fatal(err)
	}
	register(t, unused)
	if err := unix.Statfs(Dir, &after); err != nil {
		t.Fatal(err)
	}
	if before.Type != after.Type {
		t.Errorf("%s was of type %x and is of type %x", Dir, before.Type, after.Type)
	}
}
