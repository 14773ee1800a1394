package session

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// A shell that may be there to refuse decides about scp, even where it is missing.
func TestSCPNeedsAPlainShell(t *testing.T) {
	for shell, want := range map[string]struct {
		status int
		says   string
	}{
		"/bin/bash":    {0, ""},
		"/bin/gone/sh": {0, ""},
		"/bin/menu":    {3, "choose one"},
		"/bin/rbash":   {127, "scp: command not found"},
	} {
		t.Run(filepath.Base(shell), func(t *testing.T) {
			root := newJail(t)
			for name, text := range map[string]string{"menu": "#!/bin/bash\necho choose one >&2; exit 3\n"} {
				if err := os.WriteFile(filepath.Join(root, "bin", name), []byte(text), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Symlink("bash", filepath.Join(root, "bin/rbash")); err != nil {
				t.Fatal(err)
			}
			l := jailed(t, root)
			l.Account.Shell = shell
			_, errOut, status := run(t, dial(t, l), "scp -t /tmp/x", "C0644 2 x\nhi\x00")
			if status != want.status || !strings.Contains(errOut, want.says) {
				t.Errorf("status %d, %q; want %d, %q", status, errOut, want.status, want.says)
			}
			data, err := os.ReadFile(filepath.Join(root, "tmp/x"))
			if arrived := err == nil && string(data) == "hi"; arrived != (want.status == 0) {
				t.Errorf("received: %v (%q, %v)", arrived, data, err)
			}
		})
	}
}

// No shell at all and a shell that refuses in its place: nobody is let in.
func TestMissingNologinIsNotPassedOver(t *testing.T) {
	root := newJail(t)
	if err := os.Remove(filepath.Join(root, "bin/bash")); err != nil {
		t.Fatal(err)
	}
	l := jailed(t, root)
	l.Account.Shell = "/sbin/nologin"
	if _, errOut, status := run(t, dial(t, l), "scp -t /tmp/x", ""); status != 127 {
		t.Errorf("status %d, %q", status, errOut)
	}
}

// A shell that refuses refuses everything but sftp, also where the image root has
// not got it but has others.
func TestRefusingShellHasNoSubstitute(t *testing.T) {
	l := jailed(t, newJail(t))
	l.Account.Shell = "/sbin/nologin"
	l.Builtin = func(_ context.Context, command string, _ io.Reader, _, _ io.Writer) (bool, int) {
		return command == "special", 0
	}
	client := dial(t, l)
	for _, command := range []string{"echo in", "special", "scp -t /tmp/x"} {
		if out, errOut, status := run(t, client, command, ""); status != 127 || out != "" {
			t.Errorf("%s: status %d, %q, %q", command, status, out, errOut)
		}
	}
}

// On a terminal scp is a command like any other.
func TestSCPOnATerminalIsTheShells(t *testing.T) {
	r := open(t, dial(t, jailed(t, newJail(t))))
	r.ask(t, true, "pty-req", ptyRequest{Term: "xterm"})
	r.ask(t, true, "exec", text{"scp -f x"})
	out, requests := r.all(t)
	if !strings.Contains(out, "command not found") {
		t.Errorf("%q", out)
	}
	wantExit(t, requests, 127)
}

// What the client says after the end of its copy, and that it says no more, are
// no concern of the job's.
func TestSCPEndsWithItsCopy(t *testing.T) {
	root := newJail(t)
	if err := os.WriteFile(filepath.Join(root, "root/x"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := open(t, dial(t, jailed(t, root)))
	r.ask(t, true, "exec", text{"scp -f x"})
	if _, err := r.Write([]byte("\x00\x00\x00 and more")); err != nil {
		t.Fatal(err)
	}
	var out string
	var requests []*ssh.Request
	within(t, "the end", func() { out, requests = r.all(t) })
	if out != "C0600 4 x\ntext\x00" {
		t.Errorf("%q", out)
	}
	wantExit(t, requests, 0)
}
