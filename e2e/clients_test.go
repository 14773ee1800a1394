package e2e

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A realClient is a program that people use with SSH servers, and work that its
// users do with it. The work looks at the resulting bytes and trees.
type realClient struct {
	name  string
	tools []string // without which it is skipped
	work  func(t *testing.T, v *visit)
}

// python is Debian's, which has the packages that tools/setup installs, in the
// image root too.
const python = "/usr/bin/python3"

var realClients = []realClient{
	{"ssh", []string{"ssh"}, workSSH},
	{"ssh-master", []string{"ssh"}, workMaster},
	{"scp", []string{"scp"}, workSCP()},
	{"scp-old", []string{"scp"}, workSCP("-O")},
	{"sftp", []string{"sftp"}, workSFTP},
	{"rsync-tree", []string{"rsync", "ssh"}, workRsyncTree},
	{"rsync-file", []string{"rsync", "ssh"}, workRsyncFile},
	{"ansible-sftp", []string{"ansible-playbook", python, "dpkg-deb"}, workAnsible(true, "ANSIBLE_PIPELINING=False", "ANSIBLE_SSH_TRANSFER_METHOD=sftp")},
	{"ansible-scp", []string{"ansible-playbook", python, "dpkg-deb"}, workAnsible(false, "ANSIBLE_PIPELINING=False", "ANSIBLE_SSH_TRANSFER_METHOD=scp", "ANSIBLE_SCP_EXTRA_ARGS=-O")},
	{"ansible-pipelining", []string{"ansible-playbook", python, "dpkg-deb"}, workAnsible(false, "ANSIBLE_PIPELINING=True", "ANSIBLE_SSH_TRANSFER_METHOD=piped")},
	{"paramiko", []string{python}, workPython},
	{"asyncssh", []string{python}, workPython},
	{"dbclient", []string{"dbclient", "dropbearconvert", "script"}, workDropbear},
	{"plink", []string{"plink", "puttygen", "script"}, workPlink},
	{"psftp", []string{"psftp", "puttygen"}, workPSFTP},
	{"lftp", []string{"lftp", "ssh"}, workLFTP},
	{"sshfs", []string{"sshfs", "fusermount3", "ssh"}, workSSHFS},
	{"vscode", []string{"ssh", python}, workVSCode},
}

// TestClients: every client does its work with users jailed in a Debian root,
// and with users who are not jailed.
func TestClients(t *testing.T) {
	debian := debianOrSkip(t)
	tree := sampleTree(t)
	for name, start := range map[string]func(t *testing.T) *host{
		"jailed": func(t *testing.T) *host { return startJailed(t, debian) },
		"free":   startFree,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t)
			for _, c := range realClients {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					needRoot(t, c.tools...)
					c.work(t, h.visit(t, c.name, tree))
				})
			}
		})
	}
}

// A host is a server that clients visit.
type host struct {
	*hostJob
	root string // the server's / as this machine names it
}

func startJailed(t *testing.T, debian string) *host {
	parent := prepareHostJob(t, debian)
	return &host{startHostJob(t, parent), filepath.Join(parent, "image-root")}
}

// startFree serves this machine. Root has an empty home: what shells read at
// their start in the real one would be part of the test.
func startFree(t *testing.T) *host {
	parent, passwd := t.TempDir(), filepath.Join(t.TempDir(), "passwd")
	must(t, os.Mkdir(filepath.Join(parent, "image-root"), 0o755))
	accounts, err := accountsWithHome(t.TempDir())
	must(t, err)
	must(t, os.WriteFile(passwd, accounts, 0o644))
	const inNamespace = `mount --bind "$0" /etc/passwd && exec "$@"`
	server := exec.Command("unshare", "--mount", "sh", "-c", inNamespace, passwd, buildenv(t), "run", parent)
	return &host{serveHostJob(t, server, parent, "SSH_JAIL=False"), "/"}
}

func (h *host) jailed() bool { return h.root != "/" }

// A visit is one client's time with a host.
type visit struct {
	*host
	client string
	tree   string // to be sent, of this machine
	mine   string // the client's own folder and home, of this machine
	folder string // where it works, in the server's words
}

func (h *host) visit(t *testing.T, client, tree string) *visit {
	v := &visit{host: h, client: client, tree: tree, mine: t.TempDir()}
	v.folder = t.TempDir()
	if h.jailed() {
		v.folder = "/srv/" + client
		must(t, os.Mkdir(v.here(v.folder), 0o755))
	}
	return v
}

// here is a file of the server as this machine names it.
func (v *visit) here(path string) string { return filepath.Join(v.root, path) }

// Files of the client's own and of the folder that it works in.
func (v *visit) own(name string) string { return filepath.Join(v.mine, name) }
func (v *visit) at(name string) string  { return filepath.Join(v.folder, name) }

// clientTime is the longest that one run of a client may take.
const clientTime = 5 * time.Minute

// use runs a client and returns what it printed.
func (v *visit) use(t *testing.T, input []byte, program ...string) (stdout []byte) {
	t.Helper()
	stdout, stderr, code := v.try(t, input, program...)
	if code != 0 {
		t.Fatalf("%s: exit code %d\n%s%s", strings.Join(program, " "), code, stderr, ends(stdout))
	}
	return stdout
}

// try runs a client that may fail.
func (v *visit) try(t *testing.T, input []byte, program ...string) (stdout, stderr []byte, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), clientTime) // cleanups use clients too
	defer cancel()
	var out, complaints bytes.Buffer
	command := exec.CommandContext(ctx, program[0], program[1:]...)
	command.Env = append(os.Environ(), "HOME="+v.mine)
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(input), &out, &complaints
	command.WaitDelay = time.Second // for children that it has left with its streams
	err := command.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v\n%s", strings.Join(program, " "), err, complaints.Bytes())
	}
	return out.Bytes(), complaints.Bytes(), command.ProcessState.ExitCode()
}

// ends is a text that fits into a message.
func ends(text []byte) []byte {
	const most = 4000
	if len(text) > 2*most {
		return bytes.Join([][]byte{text[:most], text[len(text)-most:]}, []byte("\n[…]\n"))
	}
	return text
}

// sampleTree has what every client can carry: folders, files of any content,
// one larger than what a client asks for at once, modes and times.
func sampleTree(t *testing.T) string {
	t.Helper()
	tree := makeUploads(t)
	info, err := os.Stat(tree)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(tree, "large"), noise(5<<20+1), 0o644))
	must(t, os.Chtimes(filepath.Join(tree, "large"), info.ModTime(), info.ModTime()))
	must(t, os.Chtimes(tree, info.ModTime(), info.ModTime()))
	return tree
}

// noise is bytes without a pattern, the same ones each time.
func noise(size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(b)
	return b
}

// wantSame compares names and content of two trees, for clients that cannot
// keep the rest.
func wantSame(t *testing.T, a, b string) {
	t.Helper()
	tool(t, "diff", "-r", a, b)
}

// wantFile looks at one file's content and permissions.
func wantFile(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	got, err := os.ReadFile(path)
	must(t, err)
	if string(got) != content {
		t.Errorf("%s holds %q, want %q", path, ends(got), content)
	}
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode() != mode {
		t.Errorf("%s has mode %v, want %v", path, info.Mode(), mode)
	}
}

// wantStream sends a stream through a command of the server and wants it back.
func (v *visit) wantStream(t *testing.T, program ...string) {
	t.Helper()
	sent := noise(3<<20 + 1)
	if got := v.use(t, sent, program...); !bytes.Equal(got, sent) {
		t.Errorf("%s: got %d bytes back, which are not the %d that were sent", strings.Join(program, " "), len(got), len(sent))
	}
}

// wantCode compares a client's exit code.
func (v *visit) wantCode(t *testing.T, want int, program ...string) {
	t.Helper()
	if _, stderr, code := v.try(t, nil, program...); code != want {
		t.Errorf("%s: exit code %d, want %d\n%s", strings.Join(program, " "), code, want, stderr)
	}
}
