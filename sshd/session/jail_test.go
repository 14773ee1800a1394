package session

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// newJail is an image root with bash and ls.
func newJail(t *testing.T) string {
	needRoot(t)
	root := t.TempDir()
	for _, program := range []string{"bash", "ls"} {
		copyProgram(t, root, program)
	}
	for _, dir := range []string{"root", "etc", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// jailed is a login whose account is the container's, as in a job.
func jailed(t *testing.T, root string) *Login {
	l := newLogin(t)
	l.Jail = root
	l.Account = Account{Name: "root", Home: "/root", Shell: "/bin/bash"}
	return l
}

func TestJailedCommand(t *testing.T) {
	root := newJail(t)
	client := dial(t, jailed(t, root))
	out, errOut, status := run(t, client, "pwd; echo made inside >/tmp/file; ls /", "")
	if status != 0 || !strings.HasPrefix(out, "/root\nbin\n") {
		t.Fatalf("status %d, output %q, error %q", status, out, errOut)
	}
	if data, err := os.ReadFile(filepath.Join(root, "tmp/file")); err != nil || string(data) != "made inside\n" {
		t.Errorf("the file is not in the image root: %q, %v", data, err)
	}
	r := open(t, client)
	r.ask(t, true, "pty-req", ptyRequest{Term: "xterm"})
	r.ask(t, true, "shell", nil)
	fmt.Fprint(r, "echo $0 ~ $BASHPID; exit 6\n")
	out, requests := r.all(t)
	if !strings.Contains(out, "-bash /root ") {
		t.Errorf("jailed shell: %q", out)
	}
	wantExit(t, requests, 6)
}

func TestWhatCannotStart(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(root string) error
		exit    int
		says    string
	}{
		"no shell": {
			func(root string) error { return os.Remove(filepath.Join(root, "bin/bash")) },
			127, "/bin/bash: No such file or directory\nhint: there is no shell in the image root",
		},
		"not executable": {
			func(root string) error { return os.Chmod(filepath.Join(root, "bin/bash"), 0o644) },
			126, "/bin/bash: Permission denied\n",
		},
		"no loader": {
			func(root string) error { return os.RemoveAll(filepath.Join(root, "lib64")) },
			127, "dynamic loader",
		},
		"another machine": {
			func(root string) error {
				return os.WriteFile(filepath.Join(root, "bin/bash"), []byte("\x7fELF\x02\x01\x01 not for this one"), 0o755)
			},
			126, "another processor architecture",
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := newJail(t)
			if err := c.prepare(root); err != nil {
				t.Fatal(err)
			}
			_, errOut, status := run(t, dial(t, jailed(t, root)), "true", "")
			if status != c.exit || !strings.Contains(errOut, c.says) {
				t.Errorf("exit status %d, %q; want %d, %q", status, errOut, c.exit, c.says)
			}
		})
	}
}

func TestShellOfTheImageRoot(t *testing.T) {
	root := newJail(t)
	link := filepath.Join(root, "bin/special")
	if err := os.Symlink("/bin/bash", link); err != nil { // absolute: true only inside
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("root:x:0:0::/:/bin/special\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	l := jailed(t, root)
	l.Account.Shell = "/usr/bin/fish"
	if err := os.RemoveAll(filepath.Join(root, "root")); err != nil {
		t.Fatal(err)
	}
	out, errOut, _ := run(t, dial(t, l), "echo $0 $SHELL $PWD", "")
	if out != "special /bin/special /\n" || errOut != "" {
		t.Errorf("%q, %q: in a jail a missing home directory is nothing to say", out, errOut)
	}
}

// A server in an image made from scratch has no passwd file to name a shell.
func TestRootOfNowhereGetsTheImageRootsShell(t *testing.T) {
	for passwd, want := range map[string]string{
		"":                           "/bin/bash",
		"root:x:0:0::/:/bin/gone\n":  "/bin/bash",
		"root:x:0:0::/:/bin/other\n": "/bin/other",
	} {
		root := newJail(t)
		for _, name := range []string{"sh", "other"} {
			if err := os.Symlink("bash", filepath.Join(root, "bin", name)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(root, "etc/passwd"), []byte(passwd), 0o644); err != nil {
			t.Fatal(err)
		}
		l := jailed(t, root)
		l.Account = Root
		if out, errOut, _ := run(t, dial(t, l), "echo $SHELL", ""); out != want+"\n" {
			t.Errorf("passwd %q: the shell is %q %q, want %s", passwd, out, errOut, want)
		}
	}
}

func TestMissingHomeIsToldOutsideAJail(t *testing.T) {
	l := newLogin(t)
	l.Account.Home = "/nonexistent"
	out, errOut, _ := run(t, dial(t, l), "pwd", "")
	if out != "/\n" || errOut != "Could not chdir to home directory /nonexistent: No such file or directory\n" {
		t.Errorf("%q, %q", out, errOut)
	}
}

func TestHostilePasswdDoesNotStall(t *testing.T) {
	root := newJail(t)
	if _, err := os.Stat("/usr/bin/mkfifo"); err != nil {
		t.Skip("needs mkfifo")
	}
	l := newLogin(t)
	run(t, dial(t, l), "mkfifo "+filepath.Join(root, "etc/passwd"), "")
	within(t, "a passwd that is a fifo", func() { run(t, dial(t, jailed(t, root)), "true", "") })
}
