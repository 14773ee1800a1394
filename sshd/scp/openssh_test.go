package scp

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// tree is what every conversation begins with. Its times are old, so that two of
// them are alike, and what is changed is not.
const tree = `
	printf 'some text' >file; printf other >other; chmod 640 other
	mkdir -p dir/sub/deep empty; printf 1 >dir/one; printf 22 >dir/sub/two; chmod 4755 dir/sub/two; chmod 700 dir/sub
	ln -s file link; ln -s dir dirlink; ln -s nowhere dangling; mkfifo pipe
	: >zero; printf x >'sp ace'; printf n >'new
line'; head -c 100000 /dev/zero | tr '\0' z >big; mkdir full; printf f >full/x
	find . -exec touch -h -d '2001-02-03 04:05:06' {} +`

// conversations are what a client says, to OpenSSH's scp and to this one.
var conversations = []struct{ command, says string }{
	// Sink.
	{"scp -t .", "C0644 5 new\nhello\x00"},
	{"scp -t new", "C0644 5 x\nhello\x00"},
	{"scp -t dir", "C0600 2 one\nhi\x00C0777 0 two\n\x00"},
	{"scp -t file", "C0600 3 x\nabc\x00"},
	{"scp -t link", "C0600 3 x\nabc\x00"},
	{"scp -t dangling", "C0600 3 x\nabc\x00"},
	{"scp -p -t .", "T1000000000 0 900000000 0\nC4711 1 suid\nx\x00"},
	{"scp -t .", "T1000000000 0 900000000 0\nC0644 1 plain\nx\x00C0400 1 readonly\ny\x00"},
	{"scp -p -t .", "C0400 1 readonly\ny\x00C0777 1 other\ny\x00"},
	{"scp -t .", "C0777 1 other\ny\x00"},
	{"scp -r -t .", "D0755 0 made\nC0644 1 a\nx\x00D0500 0 ro\nC0644 1 b\ny\x00E\nE\n"},
	{"scp -r -p -t .", "T1000000000 0 1 0\nD0700 0 made\nT999999999 0 1 0\nC0644 1 a\nx\x00E\n"},
	{"scp -r -t .", "D0755 0 dir\nC0644 1 one\nx\x00E\n"},
	{"scp -p -r -t .", "D0711 0 dir\nC0644 1 one\nx\x00E\n"},
	{"scp -r -t .", "D0755 0 file\nE\n"},
	{"scp -r -t newname", "D0755 0 made\nC0644 1 a\nx\x00E\n"},
	{"scp -d -t dir", "C0644 1 a\nx\x00"},
	{"scp -d -t file", "C0644 1 a\nx\x00"},
	{"scp -d -t missing", "C0644 1 a\nx\x00"},
	{"scp -t missing/x", "C0644 1 a\nx\x00"},
	{"scp -t .", "C0644 1 dir\nx\x00C0644 1 after\nx\x00"},
	{"scp -t .", "\x01scp: a file that could not be read\nC0644 1 after\nx\x00"},
	{"scp -t .", "\x02fatal\nC0644 1 after\nx\x00"},
	{"scp -t .", "C0644 3 a\nxyz\x01scp: it changed\nC0644 1 after\nx\x00"},
	{"scp -t .", "C0644 3 a\nxyz\x02scp: no more\nC0644 1 after\nx\x00"},
	{"scp -t .", ""},
	{"scp -t .", "E\n"},
	{"scp -t .", "E\nC0644 1 after\nx\x00"},
	{"scp -t one two", "C0644 1 a\nx\x00"},
	{"scp -t", "C0644 1 a\nx\x00"},
	{"scp -t big", "C0644 3 big\nabc\x00"},
	{"scp -t .", "C0644 100 cut\nabc"},
	{"scp -t .", "C0644 100000 cut\n" + strings.Repeat("c", 70000)},
	{"scp -v -t .", "C0644 3 a\nabc\x00"},
	// Hostile and broken.
	{"scp -t .", "C0644 1 ../out\nx\x00"},
	{"scp -t .", "C0644 1 ..\nx\x00"},
	{"scp -t .", "C0644 1 .\nx\x00"},
	{"scp -t .", "C0644 1 \nx\x00"},
	{"scp -t .", "C0644 1 /abs\nx\x00"},
	{"scp -t .", "C0644 1 dir/x\nx\x00"},
	{"scp -r -t .", "D0755 0 ..\nE\n"},
	{"scp -r -t .", "D0755 0 a/b\nE\n"},
	{"scp -t .", "D0755 0 made\nE\n"},
	{"scp -t .", "\n"},
	{"scp -t .", "hello, I am your login script\n"},
	{"scp -t .", "C0644 1 a\nx\x00hello again\n"},
	{"scp -t .", "C0648 1 a\nx\x00"},
	{"scp -t .", "C64 1 a\nx\x00"},
	{"scp -t .", "C06440 1 a\nx\x00"},
	{"scp -t .", "C0644  1 a\nx\x00"},
	{"scp -t .", "C0644 -1 a\nx\x00"},
	{"scp -t .", "C0644 1a a\nx\x00"},
	{"scp -t .", "C0644 1\nx\x00"},
	{"scp -t .", "C0644 99999999999999999999 a\nx\x00"},
	{"scp -t .", "C\n"},
	{"scp -t .", "C0644 1 cut"},
	{"scp -t .", "T1 0 2 0 3\nC0644 1 a\nx\x00"},
	{"scp -t .", "T1 0 2\nC0644 1 a\nx\x00"},
	{"scp -t .", "Tx 0 2 0\nC0644 1 a\nx\x00"},
	{"scp -t .", "T1 9999999 2 0\nC0644 1 a\nx\x00"},
	{"scp -p -t .", "T99999999999999999999 0 2 0\nC0644 1 a\nx\x00"},
	{"scp -t .", "T1 0 2 0\nT3 0 4 0\nC0644 1 a\nx\x00"},
	{"scp -p -t pipe/x", "C0644 1 a\nx\x00"},
	{"scp -t .", "C0644 1 " + strings.Repeat("n", 300) + "\nx\x00"},
	{"scp -r -t .", strings.Repeat("D0755 0 "+strings.Repeat("d", 250)+"\n", 20) + strings.Repeat("E\n", 20)},
	// Source: a zero byte is the client's consent.
	{"scp -f file", oks(3)},
	{"scp -f other zero big", oks(9)},
	{"scp -p -f file", oks(4)},
	{"scp -f dir", oks(3)},
	{"scp -r -f dir", oks(20)},
	{"scp -r -p -f dir", oks(30)},
	{"scp -r -f dir/", oks(20)},
	{"scp -r -f dirlink", oks(20)},
	{"scp -r -f full/.", oks(20)},
	{"scp -f link", oks(3)},
	{"scp -f dangling", oks(3)},
	{"scp -f missing file", oks(6)},
	{"scp -f pipe", oks(3)},
	{"scp -f 'new\nline'", oks(3)},
	{"scp -f 'sp ace'", oks(3)},
	{"scp -f file/", oks(3)},
	{"scp -f file/x", oks(3)},
	{"scp -f ''", oks(3)},
	{"scp -r -f empty", oks(5)},
	{"scp -f", oks(3)},
	{"scp -f file", ""},
	{"scp -f file", "\x02no\n"},
	{"scp -f file other", "\x00\x01scp: no\n" + oks(3)},
	{"scp -r -f dir", "\x00\x01scp: no\n" + oks(3)},
	{"scp -p -f file other", "\x00\x01scp: no\n" + oks(9)},
	{"scp -f file", "\x00\x00\x01scp: disk full\n"},
	{"scp -f file other", "\x00\x00\x02scp: fatal\n" + oks(3)},
	{"scp -f file", "\x00garbage\n"},
	{"scp -v -f file", oks(3)},
}

func oks(n int) string { return strings.Repeat("\x00", n) }

// ended is what a conversation came to.
type ended struct {
	exit           int
	stdout, stderr string
	tree           string
}

func (e ended) String() string {
	return fmt.Sprintf("exit %d, %.400q, %.300q\n%s", e.exit, e.stdout, e.stderr, e.tree)
}

// debugging is what OpenSSH's -v says of its own descriptors.
var debugging = regexp.MustCompile(`(?m)^.*debug1: .*\r\n`)

// Both say the same, word for word, and leave the same tree.
func TestConversationsAreOpenSSHs(t *testing.T) {
	needRoot(t)
	program := needTool(t, "scp")
	for _, c := range conversations {
		t.Run(strings.ReplaceAll(c.command, "/", "|")+" "+strings.ReplaceAll(c.says[:min(40, len(c.says))], "/", "|"), func(t *testing.T) {
			t.Parallel()
			want, got := withOpenSSH(t, program, c.command, c.says), withOurs(t, c.command, c.says)
			if got != want {
				t.Errorf("%.300q:\n got %v\nwant %v", c.says, got, want)
			}
		})
	}
}

func withOpenSSH(t *testing.T, program, command, says string) ended {
	t.Helper()
	dir := t.TempDir()
	sh(t, dir, tree)
	cmd := exec.Command("/bin/sh", "-c", "umask 022; exec "+program+strings.TrimPrefix(command, "scp"))
	cmd.Dir = dir
	cmd.Stdin = strings.NewReader(says)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return ended{cmd.ProcessState.ExitCode(), stdout.String(), debugging.ReplaceAllString(stderr.String(), ""), snapshot(t, dir)}
}

func withOurs(t *testing.T, command, says string) ended {
	t.Helper()
	dir := t.TempDir()
	sh(t, dir, tree)
	c, ok := Parse(strings.ReplaceAll(command, "\\\n", ""))
	if !ok {
		t.Fatalf("%s: not understood", command)
	}
	var stdout, stderr bytes.Buffer
	exit := c.Run(stdio{strings.NewReader(says), &stdout}, enter(t, dir), Options{Home: "/", Directory: "/", Umask: testUmask, Stderr: &stderr})
	return ended{exit, stdout.String(), stderr.String(), snapshot(t, dir)}
}

// clientCopies are made with OpenSSH's client, with -S for ssh, out of "local"
// and into it; remote paths begin in /root of the jail.
var clientCopies = []struct {
	args string // R: is the jail
	exit int
}{
	{"new R:", 0},
	{"new R:other-name", 0},
	{"new R:/etc/abs", 0},
	{"new R:~/home", 0},
	{"new R:~builder/theirs", 0},
	{"new R:link-to-etc", 0},
	{"new longer R:", 0},
	{"new longer R:file", 1},
	{"new R:missing/x", 1},
	{"-r tree R:", 0},
	{"-r -p tree R:", 0},
	{"-r tree new R:/etc", 0},
	{"-p tree/x R:", 0},
	{"tree R:", 1},
	{"sp\\ ace R:'\"also sp ace\"'", 0},
	{"sp\\ ace R:'also\\ sp\\ ace'", 0},
	{"quo\\'te R:", 0},
	{"big R:", 0},
	{"R:file .", 0},
	{"R:file R2", 0},
	{"R:'*.txt' .", 0},
	{"R:'dir/*/t?o' .", 0},
	{"R:'[fg]ile' .", 0},
	{"R:'~/dir/[!x]ne' .", 0},
	{"-T R:'\"sp ace\"' .", 0}, // the client's own look at names does not know quotes
	{"R:'sp\\ ace' .", 0},
	{"-T R:'file other' .", 0}, // two words in one
	{"R:'no*match' .", 1},
	{"R:missing .", 1},
	{"R:dir .", 1},
	{"-r R:dir .", 0},
	{"-rp R:dir .", 0},
	{"-p R:file .", 0},
	{"R:/etc/release .", 0}, // an absolute link
	{"R:big .", 0},
	{"-r R:/etc copy", 0},
	{"R:-dash .", 0},
}

// Everything that the client can do works as with OpenSSH on the other side,
// here in a jail.
func TestClientCopies(t *testing.T) {
	needRoot(t)
	program := needTool(t, "scp")
	const image = `
		mkdir -p etc root/dir/sub home/b; printf 'builder:x:77:78::/home/b:/bin/sh\n' >etc/passwd; ln -s /etc/passwd etc/release
		cd root; printf text >file; printf o >other; printf a >a.txt; printf b >b.txt; printf h >.hidden.txt; printf s >'sp ace'
		printf 1 >dir/one; printf 2 >dir/sub/two; chmod 4750 dir/sub/two; ln -s /etc link-to-etc; printf - >-dash
		touch -d '2001-02-03 04:05:06' file dir/one dir/sub; head -c 3000000 /dev/urandom >big`
	const local = `
		printf new >new; printf longer >longer; mkdir -p tree/a/b; printf x >tree/x; printf y >tree/a/y; chmod 700 tree/a
		printf s >'sp ace'; printf q >"quo'te"; touch -d '2001-02-03 04:05:06' tree/x tree/a; chmod 4711 tree/x; head -c 3000000 /dev/urandom >big`
	for _, c := range clientCopies {
		t.Run(strings.ReplaceAll(c.args, "/", "|"), func(t *testing.T) {
			t.Parallel()
			root, here := t.TempDir(), t.TempDir()
			sh(t, root, image)
			sh(t, here, local)
			before := snapshot(t, root)
			cmd := exec.Command("/bin/sh", "-c", program+" -O -q -S "+os.Args[0]+" "+c.args)
			cmd.Dir = here
			cmd.Env = append(os.Environ(), asSSH+"="+root, "GORACE=atexit_sleep_ms=0")
			out, err := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != c.exit {
				t.Fatalf("exit status %d (%v), want %d:\n%s", code, err, c.exit, out)
			}
			checkCopies(t, c.args, root, here, before)
		})
	}
}

// checkCopies looks at what should be there after a copy that worked.
func checkCopies(t *testing.T, args, root, here, before string) {
	t.Helper()
	same := func(a, b string) {
		t.Helper()
		if out, err := exec.Command("diff", "-r", a, b).CombinedOutput(); err != nil {
			t.Errorf("%s and %s differ: %v\n%.500s", a, b, err, out)
		}
	}
	r := func(name string) string { return filepath.Join(root, name) }
	l := func(name string) string { return filepath.Join(here, name) }
	pairs := map[string][]string{
		"new R:": {l("new"), r("root/new")}, "new R:other-name": {l("new"), r("root/other-name")}, "new R:/etc/abs": {l("new"), r("etc/abs")},
		"new R:~/home": {l("new"), r("root/home")}, "new R:~builder/theirs": {l("new"), r("home/b/theirs")}, "new R:link-to-etc": {l("new"), r("etc/new")},
		"new longer R:": {l("new"), r("root/new"), l("longer"), r("root/longer")}, "-r tree R:": {l("tree"), r("root/tree")}, "-r -p tree R:": {l("tree"), r("root/tree")},
		"-r tree new R:/etc": {l("tree"), r("etc/tree"), l("new"), r("etc/new")}, "-p tree/x R:": {l("tree/x"), r("root/x")},
		"sp\\ ace R:'\"also sp ace\"'": {l("sp ace"), r("root/also sp ace")}, "sp\\ ace R:'also\\ sp\\ ace'": {l("sp ace"), r("root/also sp ace")},
		"quo\\'te R:": {l("quo'te"), r("root/quo'te")}, "big R:": {l("big"), r("root/big")}, "R:file .": {r("root/file"), l("file")},
		"R:file R2": {r("root/file"), l("R2")}, "R:'*.txt' .": {r("root/a.txt"), l("a.txt"), r("root/b.txt"), l("b.txt")},
		"R:'dir/*/t?o' .": {r("root/dir/sub/two"), l("two")}, "R:'[fg]ile' .": {r("root/file"), l("file")}, "R:'~/dir/[!x]ne' .": {r("root/dir/one"), l("one")},
		"-T R:'\"sp ace\"' .": {r("root/sp ace"), l("sp ace")}, "R:'sp\\ ace' .": {r("root/sp ace"), l("sp ace")},
		"-T R:'file other' .": {r("root/file"), l("file"), r("root/other"), l("other")}, "-r R:dir .": {r("root/dir"), l("dir")}, "-rp R:dir .": {r("root/dir"), l("dir")},
		"-p R:file .": {r("root/file"), l("file")}, "R:/etc/release .": {r("etc/passwd"), l("release")}, "R:big .": {r("root/big"), l("big")},
		"-r R:/etc copy": {r("etc/passwd"), l("copy/passwd"), r("etc/passwd"), l("copy/release")}, "R:-dash .": {r("root/-dash"), l("-dash")},
	}[args]
	for i := 0; i < len(pairs); i += 2 {
		same(pairs[i], pairs[i+1])
	}
	if pairs == nil && snapshot(t, root) != before {
		t.Errorf("the copy failed, but the jail has changed:\n%s\nwas\n%s", snapshot(t, root), before)
	}
	if _, err := os.Lstat(l(".hidden.txt")); err == nil {
		t.Error("a hidden file matched")
	}
	for copied, original := range map[string]string{r("root/x"): l("tree/x"), r("root/tree/x"): l("tree/x"), l("dir/sub/two"): r("root/dir/sub/two")} {
		if strings.Contains(args, "p ") && exists(copied) && strings.HasPrefix(args, "-") {
			out, err := exec.Command("/bin/sh", "-c", `[ "$(stat -c '%a %Y' "$0")" = "$(stat -c '%a %Y' "$1")" ]`, copied, original).CombinedOutput()
			if err != nil {
				t.Errorf("%s has not kept its mode and time: %s", copied, out)
			}
		}
	}
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}
