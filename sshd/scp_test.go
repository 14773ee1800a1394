package sshd

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// shell runs a script of the test's own.
func shell(t *testing.T, dir, script string) string {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-ec", script)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// jails are image roots that have no scp that could run.
var jails = map[string]func(t *testing.T, root string){
	"no shell": func(*testing.T, string) {},
	"no scp":   func(t *testing.T, root string) { copyProgram(t, root, "bash") },
	"another machine's scp": func(t *testing.T, root string) {
		copyProgram(t, root, "bash")
		inImage(t, root, "scp", "\x7fELF\x02\x01\x01 not for this one")
	},
	"an scp without its loader": func(t *testing.T, root string) {
		copyProgram(t, root, "bash")
		inImage(t, root, "scp", "#!/usr/lib/gone\n")
	},
	"a shell without its loader": func(t *testing.T, root string) {
		copyProgram(t, root, "ls")
		inImage(t, root, "scp", "#!/bin/ls\n") // which starts
		inImage(t, root, "sh", "#!/usr/lib/gone\n")
		shell(t, root, "ln -s /usr/bin/sh bin/sh")
	},
	"an scp that is no program": func(t *testing.T, root string) {
		copyProgram(t, root, "bash")
		inImage(t, root, "scp", "#!/bin/bash\n")
		shell(t, root, "chmod 644 usr/bin/scp; mkdir bin/scp")
	},
}

func inImage(t *testing.T, root, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(root, "usr/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "usr/bin", name), text, 0o755)
}

// newImage is an image root for a jail, made by prepare.
func newImage(t *testing.T, prepare func(t *testing.T, root string)) string {
	root := filepath.Join(trusted(t), "image-root")
	shell(t, filepath.Dir(root), `mkdir -p image-root/root image-root/etc image-root/tmp image-root/usr/bin image-root/bin`)
	prepare(t, root)
	return root
}

func startJailed(t *testing.T, root string, change func(*rig, *Config)) *rig {
	return start(t, func(r *rig, c *Config) {
		r.config.settings.ChrootDirectory = root
		r.config.settings.SetEnv = nil
		if change != nil {
			change(r, c)
		}
	})
}

// oldSCP is scp in the old protocol; "R:" begins a path on the server.
func (r *rig) oldSCP(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	for i, arg := range args {
		if path, remote := strings.CutPrefix(arg, "R:"); remote {
			args[i] = "root@127.0.0.1:" + path
		}
	}
	cmd := r.command(t, "scp", append([]string{"-O", "-q"}, args...)...)
	cmd.Dir = r.file("here")
	return cmd
}

const scpTree = `
	mkdir here; cd here
	mkdir -p tree/sub/empty tree/-dash; printf x >tree/x; : >tree/zero; printf b >'tree/a b'; printf q >"tree/it's"; printf d >'tree/a"b'
	printf u >'tree/ü-日本'; printf g >'tree/[a]*'; printf s >tree/sub/program; chmod 4750 tree/sub/program; chmod 700 tree/sub
	touch -d '2001-02-03 04:05:06' tree/x tree/sub`

// listing is a tree with everything that scp -rp keeps.
const listing = `find . -mindepth 1 -printf '%P %y %m %Ts\n' | sed 's/\.[0-9]* *$//' | sort; find . -type f -print0 | sort -z | xargs -0 cat`

// An old client's copies arrive whole in every jail that cannot run an scp.
func TestOldSCPInJail(t *testing.T) {
	for name, prepare := range jails {
		t.Run(name, func(t *testing.T) {
			root := newImage(t, prepare)
			r := startJailed(t, root, nil)
			shell(t, r.dir, scpTree)
			copied := func(args ...string) {
				t.Helper()
				if out, stderr, status := run(t, r.oldSCP(t, args...)); status != 0 || out+stderr != "" {
					t.Errorf("%q: status %d, %s%s", args, status, out, stderr)
				}
			}
			copied("-rp", "tree", "R:")
			copied("-rp", "R:tree", "back")
			want := shell(t, r.file("here/tree"), listing)
			for _, dir := range []string{filepath.Join(root, "root/tree"), r.file("here/back")} {
				if got := shell(t, dir, listing); got != want {
					t.Errorf("%s:\n%s\nwant\n%s", dir, got, want)
				}
			}
			for _, c := range []struct{ remote, file string }{
				{`'tree/a b'`, "a b"}, {`tree/a\ b`, "a b"}, {`"tree/it's"`, "it's"}, {`tree/a\"b`, `a"b`}, {"tree/ü*", "ü-日本"},
				{`tree/'[a]*'`, "[a]*"}, {"/root/tree/[x]", "x"}, {"~/tree/z?ro", "zero"}, {"tree/-dash/../x", "x"},
			} {
				dir := t.TempDir()
				copied("-T", "R:"+c.remote, dir)
				if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 || entries[0].Name() != c.file {
					t.Errorf("%s: %v, %v; want %s", c.remote, entries, err, c.file)
				}
			}
			_, stderr, status := run(t, r.oldSCP(t, "R:missing", "."))
			if status != 1 || stderr != "scp: missing: No such file or directory\n" {
				t.Errorf("a missing file: status %d, %q", status, stderr)
			}
			_, stderr, status = run(t, r.oldSCP(t, "tree/x", "R:/missing/x"))
			if status != 1 || stderr != "scp: /missing/x: No such file or directory\n" {
				t.Errorf("a missing directory: status %d, %q", status, stderr)
			}
		})
	}
}

// A hundred megabytes there and back.
func TestOldSCPOfALargeFile(t *testing.T) {
	r := startJailed(t, newImage(t, jails["no shell"]), nil)
	shell(t, r.dir, "mkdir here; head -c 100000000 /dev/urandom >here/large")
	for _, args := range [][]string{{"large", "R:/tmp/"}, {"R:/tmp/large", "back"}} {
		if _, stderr, status := run(t, r.oldSCP(t, args...)); status != 0 {
			t.Fatalf("%q: status %d, %s", args, status, stderr)
		}
	}
	shell(t, r.file("here"), "cmp large back")
}

// The account's shell has the command where it could run it, and where it may be
// there to refuse it; so has sshd's configuration.
func TestOldSCPIsTheShells(t *testing.T) {
	withShell := func(t *testing.T, root string) {
		copyProgram(t, root, "bash")
		inImage(t, root, "scp", "#!/bin/bash\necho the real one, $* >&2\nexit 7\n")
	}
	for name, c := range map[string]struct {
		prepare func(*testing.T, string)
		change  func(*rig)
		command string
		says    string
		status  int
	}{
		"a real one": {withShell, nil, "scp -t .", "the real one, -t .", 7},
		"in a path of the server's": {withShell, func(r *rig) { r.config.settings.SetEnv = []string{"PATH=/usr/bin"} },
			"scp -f x", "the real one, -f x", 7},
		"by its name":       {withShell, nil, "/usr/bin/scp -t .", "the real one, -t .", 7},
		"more than one":     {jails["no scp"], nil, "scp -t .; exit 9", "scp: command not found", 9},
		"a variable":        {jails["no scp"], nil, "scp -t $HOME", "scp: command not found", 127},
		"another direction": {jails["no scp"], nil, "scp a b", "scp: command not found", 127},
		"no sftp": {jails["no scp"], func(r *rig) { r.config.settings.Subsystems = nil },
			"scp -t .", "scp: command not found", 127},
		"other requests denied": {jails["no scp"], func(r *rig) { r.subsystem("internal-sftp -P remove") },
			"scp -f x", "scp: command not found", 127},
		"read only": {jails["no scp"], func(r *rig) { r.subsystem("internal-sftp -R") },
			"scp -t .", "scp: command not found", 127},
		"sftp is forced": {jails["no scp"], func(r *rig) { r.config.settings.ForceCommand = "internal-sftp" },
			"scp -t .", "This service allows sftp connections only.", 1},
		"another command is forced": {jails["no scp"], func(r *rig) { r.config.settings.ForceCommand = "echo $SSH_ORIGINAL_COMMAND" },
			"scp -t .", "scp -t .\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := startJailed(t, newImage(t, c.prepare), func(r *rig, _ *Config) {
				if c.change != nil {
					c.change(r)
				}
			})
			out, stderr, status := r.ssh(t, c.command)
			if status != c.status || !strings.Contains(out+stderr, c.says) {
				t.Errorf("status %d, %q, %q; want %d, %q", status, out, stderr, c.status, c.says)
			}
		})
	}
}

func (r *rig) subsystem(command string) {
	r.config.settings.Subsystems = map[string]string{"sftp": command}
}

// What is permitted nevertheless: reading, a umask, and the administrator's own scp.
func TestOldSCPAsConfigured(t *testing.T) {
	root := newImage(t, func(t *testing.T, root string) {
		jails["no scp"](t, root)
		write(t, filepath.Join(root, "root/there"), "there", 0o644)
	})
	t.Run("read only", func(t *testing.T) {
		r := startJailed(t, root, func(r *rig, _ *Config) { r.subsystem("internal-sftp -R") })
		shell(t, r.dir, "mkdir here")
		if _, stderr, status := run(t, r.oldSCP(t, "R:there", ".")); status != 0 {
			t.Errorf("status %d, %s", status, stderr)
		}
	})
	t.Run("umask", func(t *testing.T) {
		r := startJailed(t, root, func(r *rig, _ *Config) { r.subsystem("internal-sftp -u 077") })
		shell(t, r.dir, "mkdir here; echo x >here/x; chmod 666 here/x")
		_, stderr, status := run(t, r.oldSCP(t, "x", "R:"))
		if info, err := os.Stat(filepath.Join(root, "root/x")); status != 0 || err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("status %d, %s, %v %v", status, stderr, info, err)
		}
	})
	t.Run("without a jail", func(t *testing.T) {
		home := t.TempDir()
		r := start(t, func(r *rig, _ *Config) { r.config.settings.SetEnv = []string{"PATH=" + home} })
		shell(t, r.dir, "mkdir here; echo x >here/x")
		_, stderr, status := run(t, r.oldSCP(t, "x", "R:"+home))
		if got, err := os.ReadFile(filepath.Join(home, "x")); status != 0 || string(got) != "x\n" {
			t.Errorf("status %d, %s, %q %v", status, stderr, got, err)
		}
	})
	t.Run("forced", func(t *testing.T) {
		r := startJailed(t, root, func(r *rig, _ *Config) {
			r.config.settings.ForceCommand = "scp -t /tmp/in"
			r.config.settings.Subsystems = nil
		})
		shell(t, r.dir, "mkdir here; echo x >here/x")
		_, stderr, status := run(t, r.oldSCP(t, "x", "R:/root/elsewhere"))
		if got, err := os.ReadFile(filepath.Join(root, "tmp/in")); status != 0 || string(got) != "x\n" {
			t.Errorf("status %d, %s, %q %v", status, stderr, got, err)
		}
	})
}

// The audit log names each file.
func TestOldSCPIsAudited(t *testing.T) {
	var audit journal
	r := startJailed(t, newImage(t, jails["no shell"]), func(_ *rig, c *Config) {
		c.Audit = slog.New(slog.NewJSONHandler(&audit, nil))
	})
	shell(t, r.dir, "mkdir here; printf 123 >here/x")
	run(t, r.oldSCP(t, "x", "R:"))
	run(t, r.oldSCP(t, "R:x", "y"))
	run(t, r.oldSCP(t, "R:missing", "y"))
	for _, want := range []string{
		`"msg":"scp.receive",.*"path":"/root/x","bytes":3,"mode":"0644"}`, `"msg":"scp.send",.*"path":"/root/x","bytes":3}`,
		`"msg":"scp.send",.*"path":"/root/missing","error":"no such file or directory"}`,
	} {
		parts := strings.Split(want, ".*")
		if text := audit.String(); !strings.Contains(text, parts[0]) || !strings.Contains(text, parts[1]) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

// Clients that are killed in the middle of a copy leave nothing behind.
func TestKilledOldSCPLeavesNothing(t *testing.T) {
	root := newImage(t, jails["no shell"])
	r := startJailed(t, root, func(r *rig, c *Config) { c.Log = slog.New(slog.DiscardHandler) })
	shell(t, root, "truncate -s 1G root/large")
	r.connect(t).Close()
	eventually(t, "an idle server", func() bool { return len(r.open()) == 0 })
	before := takeStock(t)
	for i := range 20 {
		client := r.connect(t)
		s, err := client.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		breakOff(t, s, i)
		client.Close()
	}
	var now stock
	eventually(t, "everything back to where it was", func() bool {
		now = takeStock(t)
		return now.within(before) && len(r.open()) == 0
	})
}

// breakOff begins a copy, up or down, and returns in the middle of it.
func breakOff(t *testing.T, s *ssh.Session, i int) {
	t.Helper()
	in, err := s.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	command, says := "scp -t /tmp/x", "C0644 1000000000 x\n"
	if i%2 == 0 {
		command, says = "scp -f large", "\x00\x00\x00"
	}
	if err := s.Start(command); err != nil {
		t.Fatal(err)
	}
	io.WriteString(in, says)
	if i%2 == 0 {
		_, err = io.CopyN(io.Discard, out, 1000+rand.Int64N(3<<20))
	} else {
		_, err = in.Write(bytes.Repeat([]byte("x"), 1000+rand.IntN(1<<20)))
	}
	if err != nil {
		t.Error(fmt.Errorf("%s: %w", command, err))
	}
}

// The end of the server ends a copy whose client does nothing.
func TestShutdownEndsAnOldSCP(t *testing.T) {
	r := startJailed(t, newImage(t, jails["no shell"]), nil)
	s, err := r.connect(t).NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.StdinPipe(); err != nil { // it stays open, or scp would be done
		t.Fatal(err)
	}
	if err := s.Start("scp -t /tmp"); err != nil {
		t.Fatal(err)
	}
	if err := r.Shutdown(t.Context(), "the end"); err != nil {
		t.Error(err)
	}
	if err := s.Wait(); err == nil {
		t.Error("it ended as if all was well")
	}
}
