package scp

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"scp -t .":                         "scp sink [.]",
		"scp -f /etc/hosts":                "scp source [/etc/hosts]",
		"/usr/bin/scp -r -p -d -v -t -- x": "/usr/bin/scp sink recursive preserve directory verbose [x]",
		"scp -rpdvqt x":                    "scp sink recursive preserve directory verbose [x]",
		"scp  -f\ta  b ":                   "scp source [a b]",
		"scp -f -- -x":                     "scp source [-x]",
		"scp -f ''":                        "scp source []",
		"scp -f":                           "scp source []",
		`scp -f 'a b' "c d" e\ f`:          "scp source [a b c d e f]",
		`scp -f "a\"b\$c\d"`:               `scp source [a"b$c\d]`,
		`scp -f a'$(rm -rf /)'b`:           "scp source [a$(rm -rf /)b]",
		`"scp" -f x`:                       "scp source [x]",
		"scp -f a#b":                       "scp source [a#b]",
		"scp -f a=b":                       "scp source [a=b]",
		"scp -f -":                         "scp source [-]",
		"scp -f \xff":                      "scp source [\xff]",
	} {
		c, ok := Parse(text)
		if got := describe(c); !ok || got != want {
			t.Errorf("%q: got %q, %v; want %q", text, got, ok, want)
		}
	}
}

func describe(c Command) string {
	words := []string{c.Program, map[bool]string{true: "sink", false: "source"}[c.Sink]}
	for _, flag := range []struct {
		set  bool
		name string
	}{{c.Recursive, "recursive"}, {c.Preserve, "preserve"}, {c.Directory, "directory"}, {c.Verbose, "verbose"}} {
		if flag.set {
			words = append(words, flag.name)
		}
	}
	var paths []string
	for _, w := range c.paths {
		paths = append(paths, w.text)
	}
	return strings.Join(words, " ") + " " + fmt.Sprint(paths)
}

// All of these are for the shell, or for a real scp.
func TestParseLeavesTheRestAlone(t *testing.T) {
	for _, text := range []string{
		"", " ", "ls", "scp", "scp x", "scp a b:c", "scpx -t .", "scp.sh -t x", "xscp -f x", "-t scp", "sudo scp -t .", "exec scp -t x",
		"A=b scp -t .", "scp -t . ; id", "scp -t .;id", "scp -t . && id", "scp -t . | cat", "scp -t . &", "scp -t $HOME", "scp -t \"$HOME\"",
		"scp -t `id`", "scp -t \"`id`\"", "scp -t $(id)", "scp -t x>y", "scp -t <x", "(scp -t x)", "{ scp -t x; }", "scp -f {a,b}", "scp -t x\nid",
		"scp -t x\\\nid", "scp -t 'x", "scp -t \"x", "scp -t x\\", "scp -t x #y", "scp -t x\x00y", "scp -t 'x\x00y'", "scp -t -f x", "scp -tf x",
		"scp -S sh -t x", "scp -o ProxyCommand=id -t x", "scp -Fx -t x", "scp --help -t x", "scp -t x -r", "scp -t -* x", "scp* -t x",
		"scp -f [[:alpha:]]", "scp -f [", "scp -f [a", "scp -f [a/b]", "scp -f []a]", "scp -f a[-]b", "scp -f [!-b]*", "scp -f [!]", "scp -f [.]dot", strings.Repeat("scp -f x ", 2000) + "x",
		"scp -3 -t x", "scp -t '", "scp -f \"a\\\nb\"",
	} {
		if c, ok := Parse(text); ok {
			t.Errorf("%.60q was taken for %s", text, describe(c))
		}
	}
}

// Words become the same paths as in a shell.
func TestExpansionIsTheShells(t *testing.T) {
	needRoot(t)
	shell := needTool(t, "bash")
	dir := t.TempDir()
	sh(t, dir, `mkdir -p a/x a/y b .hid; : >a/x/f; : >a/y/f; : >b/g; : >f1; : >f2; : >'f*'; : >'sp ace'; : >'[x]'; : >.dot; : >'a-b'; : >'!'
		: >'~'; ln -s nowhere dangling; : >'back\slash'; : >'café'; mkdir etc; printf 'builder:x:7:7::/b:/bin/sh\n' >etc/passwd`)
	for _, words := range []string{
		"*", "a/*", "*/*", "*/*/f", "a/*/f", "*/", "f?", "f\\*", "'f*'", "f'*'", "f[12]", "f[!1]", "f[^1]", "[!a]*", "[a-b]", "\\[x]", "[[]x]",
		".*t", "*dot", ".d*", "no*", "no*/x", "d*", "'sp ace'", "sp\\ ace", "sp*", "\"sp\"*", "\"f\"?", "''f1", "f\"\"1", "a//*", "./*1", "../*",
		"~", "~/", "~/f1", "~/f*", "'~'", "\\~", "\"~\"/f1", "~nobody-at-all/x", "x~", "~/'sp ace'", "a-b", "a['-']b", "'!'",
		"back*", "'back\\slash'", "caf?", "*é", "f1/*", "etc/passwd/*", "dangling", "dangl*", "dangling/*", "*1 *2", "/", "/*", "//f*", "[f]1", "?1",
	} {
		c, ok := Parse("scp -f -- " + words)
		if !ok {
			t.Errorf("%s: not understood", words)
			continue
		}
		tr := transfer{Command: c, opts: Options{Home: "/", Directory: "/"}, jail: enter(t, dir)}
		got, err := tr.expandAll()
		if err != nil {
			t.Errorf("%s: %v", words, err)
			continue
		}
		cmd := exec.Command(shell, "--norc", "-c", "printf '%s\\0' "+words)
		cmd.Dir, cmd.Env = dir, []string{"HOME=/", "LC_ALL=C.UTF-8"}
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
		want = slices.DeleteFunc(want, func(s string) bool { return s == "." || s == ".." })
		if strings.HasPrefix(words, "/") || strings.HasPrefix(words, "~/f*") || strings.HasPrefix(words, "../") {
			continue // of which the shell sees another root; see below
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", words, got, want)
		}
	}
	for words, want := range map[string][]string{
		"/f?": {"/f*", "/f1", "/f2"}, "//f1*": {"//f1"}, "../f1*": {"../f1"}, "~builder/x": {"/b/x"}, "~builder/*": {"/b/g"}, "~builder": {"/b"},
		"~bui\\lder/x": {"~builder/x"}, "~'builder'": {"~builder"}, "~/f?": {"/f*", "/f1", "/f2"}, "/../../f1*": {"/../../f1"},
	} {
		c, ok := Parse("scp -f " + words)
		tr := transfer{Command: c, opts: Options{Home: "", Directory: "/"}, jail: enter(t, dir)}
		if strings.HasPrefix(words, "~/") {
			tr.opts.Home, want = "/.", []string{"/./f*", "/./f1", "/./f2"}
		}
		if got, err := tr.expandAll(); !ok || err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %q, %v; want %q", words, got, err, want)
		}
	}
}

// A passwd file that is something else does not stall the command.
func TestHostilePasswd(t *testing.T) {
	needRoot(t)
	for _, script := range []string{"mkfifo etc/passwd", "mkdir etc/passwd", "ln -s passwd etc/passwd", "mknod etc/passwd c 1 5", "head -c 3000000 /dev/zero >etc/passwd"} {
		dir := t.TempDir()
		sh(t, dir, "mkdir etc; "+script)
		c, _ := Parse("scp -t ~builder")
		tr := transfer{Command: c, opts: Options{Home: "/", Directory: "/"}, jail: enter(t, dir)}
		if got, err := tr.expandAll(); err != nil || !slices.Equal(got, []string{"~builder"}) {
			t.Errorf("%s: %q, %v", script, got, err)
		}
	}
}

// Links of the image lead to places inside it, for what is sent and received.
func TestLinksStayInside(t *testing.T) {
	needRoot(t)
	outside, dir := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	sh(t, dir, "ln -s "+outside+" dir; ln -s "+outside+"/secret file; ln -s ../../../../../../../../"+outside+" up; mkdir in; ln -s / in/root")
	for _, says := range [][2]string{
		{"scp -t dir", "C0644 1 x\nx\x00"}, {"scp -t file", "C0644 1 x\nx\x00"}, {"scp -t up", "C0644 1 x\nx\x00"},
		{"scp -t up/secret", "C0644 1 x\nx\x00"}, {"scp -r -t .", "D0755 0 up\nC0644 1 secret\nx\x00E\n"}, {"scp -t ../../.." + outside, "C0644 1 x\nx\x00"},
		{"scp -f file", oks(3)}, {"scp -f up/secret", oks(3)}, {"scp -f up/*", oks(3)}, {"scp -f " + outside + "/secret", oks(3)}, {"scp -r -f in", oks(300)},
	} {
		c, ok := Parse(says[0])
		if !ok {
			t.Fatal(says[0])
		}
		var out strings.Builder
		c.Run(stdio{strings.NewReader(says[1]), &out}, enter(t, dir), Options{Home: "/", Directory: "/", Umask: testUmask})
		if strings.Contains(out.String(), "6 secret\nsecret") {
			t.Errorf("%s: sent what is outside: %q", says[0], out.String())
		}
	}
	entries, err := os.ReadDir(outside)
	if data, _ := os.ReadFile(filepath.Join(outside, "secret")); err != nil || len(entries) != 1 || string(data) != "secret" {
		t.Errorf("outside is now %v, %q (%v)", entries, data, err)
	}
}

// Without -p nobody asked for programs with special rights; OpenSSH's scp sees it
// so since version 10.3.
func TestSpecialBitsNeedPreserve(t *testing.T) {
	needRoot(t)
	for command, want := range map[string][2]string{"scp -r -t .": {"755", "755"}, "scp -r -p -t .": {"4755", "2755"}} {
		dir := t.TempDir()
		c, _ := Parse(command)
		var out strings.Builder
		says := "C4755 1 program\nx\x00D2755 0 dir\nE\n"
		exit := c.Run(stdio{strings.NewReader(says), &out}, enter(t, dir), Options{Home: "/", Directory: "/", Umask: testUmask})
		for i, name := range []string{"program", "dir"} {
			got, err := exec.Command("stat", "-c", "%a", filepath.Join(dir, name)).CombinedOutput()
			if err != nil || exit != 0 || strings.TrimSpace(string(got)) != want[i] {
				t.Errorf("%s: mode of %s %s (%v), exit status %d; want %s", command, name, got, err, exit, want[i])
			}
		}
	}
}

// A fifo is not waited for, neither to be opened nor to take bytes.
func TestFifosAreRefused(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	sh(t, dir, "mkfifo pipe read")
	reader, err := os.OpenFile(filepath.Join(dir, "read"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for _, name := range []string{"pipe", "read"} {
		c, _ := Parse("scp -t " + name)
		var out strings.Builder
		says := "C0644 1000000 x\n" + strings.Repeat("x", 1000000) + "\x00"
		exit := c.Run(stdio{strings.NewReader(says), &out}, enter(t, dir), Options{Home: "/", Directory: "/", Umask: testUmask})
		if want := "\x01scp: " + name + ": No such device or address\n"; exit != 1 || !strings.Contains(out.String(), want) {
			t.Errorf("%s: exit status %d, %.200q; want %q", name, exit, out.String(), want)
		}
	}
}
