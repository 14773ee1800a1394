package e2e

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"buildenv/internal/treediff"
)

// openSSH is a command line of one of OpenSSH's clients.
func (v *visit) openSSH(program string, args ...string) []string {
	return append([]string{program, "-F", v.config}, args...)
}

func workSSH(t *testing.T, v *visit) {
	v.wantStream(t, v.openSSH("ssh", "job", "cat")...)
	for command, want := range map[string]int{
		"true": 0, "exit 42": 42, "no-such-program": 127, "/etc/passwd": 126, "kill -KILL $$": 255,
	} {
		v.wantCode(t, want, v.openSSH("ssh", "job", command)...)
	}
	stdout, stderr, _ := v.try(t, nil, v.openSSH("ssh", "job", "echo out; echo err >&2")...)
	if string(stdout) != "out\n" || string(stderr) != "err\n" {
		t.Errorf("streams: stdout %q, stderr %q", stdout, stderr)
	}
	if got := v.use(t, nil, v.openSSH("ssh", "-tt", "job", isTerminal)...); string(got) != "a terminal\r\n" {
		t.Errorf("terminal: %q", got)
	}
	if got := v.use(t, []byte("echo $0 $((6 * 7))\n"), v.openSSH("ssh", "job")...); !strings.HasSuffix(string(got), "-bash 42\n") {
		t.Errorf("login shell: %q", got)
	}
}

// isTerminal says so if its streams are one.
const isTerminal = "test -t 0 && test -t 1 && test -t 2 && echo a terminal"

// masterSessions is how many sessions a connection may have: sshd's MaxSessions.
const masterSessions = 10

// workMaster shares one connection among many sessions at once. Where a client
// would make a connection of its own instead, it finds no way.
func workMaster(t *testing.T, v *visit) {
	socket := startMaster(t, v)
	through := func(command string) []string {
		return v.openSSH("ssh", "-S", socket, "-o", "ProxyCommand=false", "job", command)
	}
	var sessions []*openSession
	for i := range masterSessions {
		sessions = append(sessions, openSessionWith(t, through("cat"), fmt.Sprintf("session %d", i)))
	}
	_, stderr, code := v.try(t, nil, through("true")...)
	if code != 255 || !strings.Contains(string(stderr), "refused") {
		t.Errorf("one session too many: exit code %d\n%s", code, stderr)
	}
	sessions[0].close(t)
	v.use(t, nil, through("true")...)
	for _, s := range sessions[1:] {
		s.close(t)
	}
}

// startMaster returns the socket of a client that lets others use its connection.
func startMaster(t *testing.T, v *visit) (socket string) {
	t.Helper()
	socket = filepath.Join(shortFolder(t), "s")
	master := exec.Command("ssh", "-F", v.config, "-M", "-S", socket, "-N", "job")
	must(t, master.Start())
	t.Cleanup(func() {
		master.Process.Signal(syscall.SIGTERM)
		master.Wait()
	})
	must(t, poll(func() bool { _, err := os.Stat(socket); return err == nil }))
	return socket
}

// shortFolder has a name that leaves room for a socket's: Linux allows 107 bytes.
func shortFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "s")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(folder) })
	return folder
}

// An openSession repeats what it is told.
type openSession struct {
	command *exec.Cmd
	stdin   io.WriteCloser
}

// openSessionWith begins a session and waits until it has repeated a line.
func openSessionWith(t *testing.T, program []string, line string) *openSession {
	t.Helper()
	s := &openSession{command: exec.Command(program[0], program[1:]...)}
	var err error
	s.stdin, err = s.command.StdinPipe()
	must(t, err)
	stdout, err := s.command.StdoutPipe()
	must(t, err)
	s.command.Stderr = os.Stderr
	must(t, s.command.Start())
	t.Cleanup(func() { s.command.Process.Kill() })
	_, err = io.WriteString(s.stdin, line+"\n")
	must(t, err)
	if got, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || got != line+"\n" {
		t.Fatalf("%s: got %q, %v", line, got, err)
	}
	return s
}

func (s *openSession) close(t *testing.T) {
	t.Helper()
	must(t, s.stdin.Close())
	must(t, s.command.Wait())
}

// workSCP copies a tree there and back.
func workSCP(options ...string) func(t *testing.T, v *visit) {
	return func(t *testing.T, v *visit) {
		scp := func(from, to string) {
			v.use(t, nil, v.openSSH("scp", append(options, "-rpq", from, to)...)...)
		}
		scp(v.tree, "job:"+v.at("tree"))
		wantDiff(t, treediff.DiffSeconds, v.tree, v.here(v.at("tree")))
		scp("job:"+v.at("tree"), v.own("back"))
		wantDiff(t, treediff.DiffSeconds, v.tree, v.own("back"))
		scp("job:"+v.at("tree/*.txt"), v.mine)
		tool(t, "cmp", filepath.Join(v.tree, "notes.txt"), v.own("notes.txt"))
	}
}

// sftpCommands work below FOLDER, on a TREE that is sent and fetched into OWN.
const sftpCommands = `put -rp TREE FOLDER/tree
get -rp FOLDER/tree OWN/back
mkdir FOLDER/d
rename FOLDER/tree/notes.txt FOLDER/d/notes
chmod 640 FOLDER/d/notes
chown 8 FOLDER/d/notes
ln FOLDER/d/notes FOLDER/d/again
ln -s notes FOLDER/d/link
cp FOLDER/d/notes FOLDER/d/copy
ls -l FOLDER/d
df FOLDER
-rmdir FOLDER/d
-rename -l FOLDER/d/copy FOLDER/d/notes
rm FOLDER/d/again
`

func workSFTP(t *testing.T, v *visit) {
	batch := strings.NewReplacer("TREE", v.tree, "FOLDER", v.folder, "OWN", v.mine).Replace(sftpCommands)
	printed := string(v.use(t, []byte(batch), v.openSSH("sftp", "-b", "-", "job")...))
	wantDiff(t, treediff.DiffSeconds, v.tree, v.own("back"))
	notes := strings.Repeat("notes.txt", 1000)
	wantFile(t, v.here(v.at("d/notes")), notes, 0o640)
	wantFile(t, v.here(v.at("d/link")), notes, 0o640)
	if got := tool(t, "sh", "-c", `cd "$0" && echo * && stat -c %u:%h notes && readlink link`, v.here(v.at("d"))); got != "copy link notes\n8:1\nnotes" {
		t.Errorf("the folder afterwards: %q", got)
	}
	for _, want := range []string{"-rw-r-----    ? mail     root ", "lrwxrwxrwx    ? root     root ", "%Capacity"} {
		if !strings.Contains(printed, want) {
			t.Errorf("sftp did not print %q:\n%s", want, printed)
		}
	}
}
