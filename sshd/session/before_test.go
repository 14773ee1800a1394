package session

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// inHome writes a file below a login's home directory.
func inHome(t *testing.T, l *Login, name, content string) {
	t.Helper()
	path := filepath.Join(l.Account.Home, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestUserRC(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Login)
		want   string
	}{
		"permitted":               {func(l *Login) { l.Policy.PermitUserRC = true }, "rc\njob\n"},
		"not permitted":           {func(*Login) {}, "job\n"},
		"forced by the server":    {func(l *Login) { l.Policy.PermitUserRC, l.Policy.ForceCommand = true, "echo job" }, "job\n"},
		"forced by the key's own": {func(l *Login) { l.Policy = forcedByKey(l.Policy, "echo job") }, "rc\njob\n"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLogin(t)
			inHome(t, l, ".ssh/rc", "echo rc")
			test.change(l)
			if out, _, _ := run(t, dial(t, l), "echo job", ""); out != test.want {
				t.Errorf("got %q, want %q", out, test.want)
			}
		})
	}
}

func forcedByKey(p Policy, command string) Policy {
	p.PermitUserRC, p.ForceCommand, p.ForcedByKey = true, command, true
	return p
}

func TestUserEnvironment(t *testing.T) {
	l := newLogin(t)
	inHome(t, l, ".ssh/environment", "# a comment\nMINE=1\n  INDENTED=a=b\nOTHER=no\nLD_PRELOAD=/evil\nno entry\nSET=user\n")
	l.Policy.UserEnvironment, l.Policy.SetEnv = "MINE,INDENTED,LD_*,SET", []string{"SET=server"}
	client := dial(t, l)
	for name, want := range map[string]string{"MINE": "1", "INDENTED": "a=b", "OTHER": "", "LD_PRELOAD": "", "SET": "server"} {
		out, stderr, _ := run(t, client, "echo \"$"+name+"\"", "")
		if out != want+"\n" {
			t.Errorf("%s: %q, want %q", name, out, want)
		}
		if complaint := "Bad line 6 in " + l.Account.Home + "/.ssh/environment\n"; stderr != complaint {
			t.Errorf("told %q, want %q", stderr, complaint)
		}
	}
	l.Policy.UserEnvironment = ""
	if out, stderr, _ := run(t, client, "echo \"$MINE\"", ""); out != "\n" || stderr != "" {
		t.Errorf("not permitted, but %q, %q", out, stderr)
	}
}

func TestAuthInfo(t *testing.T) {
	l := newLogin(t)
	l.AuthInfo = "publickey ssh-ed25519 AAAA\n"
	out, _, _ := run(t, dial(t, l), "stat -c '%a %u' $SSH_USER_AUTH; cat $SSH_USER_AUTH; echo $SSH_USER_AUTH", "")
	mode, rest, _ := strings.Cut(out, "\n")
	text, file, _ := strings.Cut(rest, "\n")
	if mode != "600 0" || text+"\n" != l.AuthInfo {
		t.Errorf("mode %q, content %q", mode, text)
	}
	eventually(t, "the file to go", func() bool { _, err := os.Lstat(strings.TrimSpace(file)); return os.IsNotExist(err) })
}
