package sshd

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inPrivateHome runs a test once more in a mount namespace of its own, in which
// /root is empty: both servers look for ~/.ssh/environment where the passwd file
// says, and the machine's own must stay as it is. It tells whether this is the
// one inside.
func inPrivateHome(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a mount namespace")
	}
	const mark = "BUILDENV_TEST_PRIVATE_HOME"
	if os.Getenv(mark) == t.Name() {
		if err := unix.Mount("tmpfs", "/root", "tmpfs", 0, "mode=0700"); err != nil {
			t.Fatal(err)
		}
		return true
	}
	self := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	self.Env = append(os.Environ(), mark+"="+t.Name())
	self.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	out, err := self.CombinedOutput()
	t.Logf("%s", out)
	switch {
	case strings.Contains(string(out), "--- SKIP: "+t.Name()):
		t.Skip("needs what the test in the namespace says")
	case err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()):
		t.Errorf("in a namespace of its own: %v", err)
	}
	return false
}

// TestEnvironmentBesideSshd compares whole environments.
func TestEnvironmentBesideSshd(t *testing.T) {
	if !inPrivateHome(t) {
		return
	}
	const file = "# mine\nFILE=of mine\n  INDENTED=yes\nQUOTED=\"a b\"\nnonsense\nEMPTY=\nBOTH=file\nPATH=/opt/bin:/usr/bin:/bin\nLC_FILE=C\nHOME=/nowhere\nTERM=dumb\n=x\nSSH_CLIENT=forged\n"
	const key = `environment="KEY=of the key",environment="BOTH=key",environment="LC_FILE=key",environment="USER=forged"`
	for name, c := range map[string]struct {
		config  string // goes before everything, for SetEnv's first line counts
		command string
		tty     bool
		jailed  bool
	}{
		"defaults":              {},
		"permitted":             {config: "PermitUserEnvironment yes"},
		"some":                  {config: "PermitUserEnvironment LC_*,KEY"},
		"all but":               {config: "PermitUserEnvironment *,!BOTH,!PATH"},
		"accepted":              {config: "AcceptEnv LANG LC_*\nAcceptEnv CLIENT"},
		"accepted and the file": {config: "AcceptEnv BOTH HOME USER PATH LC_FILE\nPermitUserEnvironment yes"},
		"set":                   {config: "AcceptEnv BOTH\nPermitUserEnvironment yes\nSetEnv BOTH=server LOGNAME=set \"SPACED=a b\""},
		"set, twice":            {config: "SetEnv ONE=1 ONE=2\nSetEnv TWO=2"},
		"set what is sshd's":    {config: "SetEnv SSH_CLIENT=x SSH_CONNECTION=y SSH_TTY=z SHELL=/bin/false"},
		"match":                 {config: "SetEnv ONE=1\nMatch User root\nSetEnv TWO=2\nAcceptEnv CLIENT\nMatch all"},
		"forced":                {config: "ForceCommand env", command: "what was asked"},
		"forced, nothing asked": {config: "ForceCommand env", command: "-"},
		"terminal":              {config: "AcceptEnv LANG\nPermitUserEnvironment yes", tty: true},
		"jailed":                {config: "PermitUserEnvironment yes\nSetEnv JOB=1\nMatch User root\nChrootDirectory DIR/image\nMatch all", jailed: true},
		"terminal in a jail":    {config: "AcceptEnv LANG\nChrootDirectory DIR/image", jailed: true, tty: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := startBoth(t, "PermitRootLogin yes\n"+c.config)
			if err := os.MkdirAll("/root/.ssh", 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, "/root/.ssh/environment", file, 0o600)
			if c.jailed {
				fillJail(t, b.file("image"))
			}
			write(t, b.file("authorized_keys"), line(key, b.key)+"\n", 0o600)
			args := []string{"-o", "SetEnv=LANG=C.UTF-8 LC_TIME=C CLIENT=x BOTH=client HOME=/client USER=client PATH=/client LC_FILE=client"}
			if c.tty {
				args = append(args, "-tt")
			}
			switch c.command {
			case "":
				args = append(args, "env")
			case "-":
			default:
				args = append(args, c.command)
			}
			theirs, ours := b.ask(t, args...)
			if theirs.status != 0 || ours.status != 0 {
				t.Fatalf("status %d, ours %d", theirs.status, ours.status)
			}
			wanted, got := variables(theirs.out), variables(ours.out)
			for _, v := range wanted {
				if !slices.Contains(got, v) {
					t.Errorf("ours lacks %s", v)
				}
			}
			for _, v := range got {
				if !slices.Contains(wanted, v) {
					t.Errorf("only ours has %s", v)
				}
			}
			if len(wanted) < 8 {
				t.Errorf("that is no environment: %q", theirs.out)
			}
		})
	}
}

// fillJail makes an image root with a home and an environment of its own.
func fillJail(t *testing.T, root string) {
	t.Helper()
	for _, program := range []string{"bash", "env"} {
		copyProgram(t, root, program)
	}
	if err := os.MkdirAll(filepath.Join(root, "root/.ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "root/.ssh/environment"), "JAIL=yes\nFILE=of the image\n", 0o600)
}

// variables are the lines of env(1) without what differs by chance.
func variables(text string) []string {
	var list []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		name, value, _ := strings.Cut(line, "=")
		switch name {
		case "SSH_CLIENT", "SSH_CONNECTION": // addresses stay, ports go
			line = name + "="
			for i, word := range strings.Fields(value) {
				if name == "SSH_CLIENT" && i == 0 || name == "SSH_CONNECTION" && i%2 == 0 {
					line += word + " "
				}
			}
		case "SSH_TTY":
			line = name + "=" + strings.TrimRight(value, "0123456789")
		}
		list = append(list, line)
	}
	slices.Sort(list)
	return list
}
