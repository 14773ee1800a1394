package scp

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"buildenv/sshd/jail"

	"golang.org/x/sys/unix"
)

// With asSSH in its environment the test binary is what scp(1) takes for ssh:
// it runs the command, its last argument, in the jail that the variable names.
const asSSH = "SCP_TEST_ROOT"

const testUmask = 0o022

func TestMain(m *testing.M) {
	unix.Umask(testUmask)
	if root, ok := os.LookupEnv(asSSH); ok {
		os.Exit(beSSH(root))
	}
	os.Exit(m.Run())
}

type stdio struct {
	io.Reader
	io.Writer
}

func beSSH(root string) int {
	c, ok := Parse(os.Args[len(os.Args)-1])
	if !ok {
		os.Stderr.WriteString("not understood: " + os.Args[len(os.Args)-1] + "\n")
		return 99
	}
	j, err := jail.Enter(strings.TrimSuffix(root, "/"), testUmask)
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		return 98
	}
	defer j.Close()
	return c.Run(stdio{os.Stdin, os.Stdout}, j, Options{Home: "/root", Directory: "/root", Umask: testUmask, Stderr: os.Stderr})
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for chroot")
	}
}

func needTool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("needs %s: %v", name, err)
	}
	return path
}

func enter(t testing.TB, dir string) *jail.Jail {
	t.Helper()
	j, err := jail.Enter(dir, testUmask)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.Close)
	return j
}

func sh(t testing.TB, dir, script string) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-ec", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// snapshot describes a tree: names, modes, owners, times of files that are not
// from today, contents.
func snapshot(t testing.TB, dir string) string {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-ec", `
		find . -printf '%P %y %m %U:%G %l' \( -newermt 2010-01-01 -printf '\n' -o -printf ' %TY-%Tm-%Td %TT\n' \) | sort
		find . -type f -size -200k -print0 | sort -z | xargs -0r sha256sum`)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("snapshot: %v\n%s", err, out)
	}
	return string(out)
}
