package sshd

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"buildenv/sshd/sshdconfig"
)

// deadFS is a file system that never answers.
func deadFS(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs /dev/fuse: %v", err)
	}
	if err := unix.Mount("dead", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fuse.Fd())); err != nil {
		fuse.Close()
		t.Skipf("needs the right to mount: %v", err)
	}
	t.Cleanup(func() {
		fuse.Close() // frees who waits for it
		unix.Unmount(dir, unix.MNT_DETACH)
	})
	return dir
}

func TestADeadFileSystemDoesNotHoldUpTheEnd(t *testing.T) {
	dir := deadFS(t)
	r := start(t, func(r *rig, _ *Config) { r.config.settings.AllowStreamLocalForwarding = "yes" })
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_FORCE|unix.MNT_DETACH) }) // before the server's own
	client := r.connect(t)
	go client.ListenUnix(dir + "/socket") // ends with the connection
	if _, err := output(client, "true"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	returned := make(chan error, 1)
	go func() { returned <- r.Shutdown(ctx, "the test is over") }()
	select {
	case err := <-returned:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("shutdown: %v", err)
		}
	case <-time.After(patience):
		t.Error("shutdown waits for a file system")
	}
}

func TestExitStatusOfSSH(t *testing.T) {
	r := start(t, nil)
	for command, want := range map[string]int{
		"true": 0, "false": 1, "exit 42": 42, "no-such-program": 127, "exit 255": 255, "kill -KILL $$": 255,
	} {
		if _, stderr, got := r.ssh(t, command); got != want {
			t.Errorf("%q: status %d, want %d (%s)", command, got, want, stderr)
		}
	}
}

// rounds is how often 10 MiB must arrive whole; "make soak" says more.
var rounds = flag.Int("rounds", 4, "how often clients fetch 10 MiB in tests of complete output")

// The tail gets lost, if anything, and when the machine is busy: four clients
// at once keep it so.
func TestOutputIsCompleteOverSSH(t *testing.T) {
	r := start(t, nil)
	const text = "0123456789abcdef"
	for client := range 4 {
		t.Run(fmt.Sprintf("client %d", client), func(t *testing.T) {
			t.Parallel()
			for range max(1, *rounds/4) {
				r.fetch(t, strings.Repeat(text, 10<<20/len(text)))
			}
			for range 5 {
				r.fetch(t, strings.Repeat(text, 300<<10/len(text)))
			}
		})
	}
}

// fetch has data on both streams at once, then on a terminal.
func (r *rig) fetch(t *testing.T, data string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "data")
	write(t, file, data, 0o600)
	out, errOut, status := r.ssh(t, "cat "+file+" & cat "+file+" >&2; wait")
	if status != 0 || out != data || errOut != data {
		t.Errorf("status %d, %d and %d bytes, want twice %d", status, len(out), len(errOut), len(data))
	}
	out, _, status = r.ssh(t, "-tt", "stty -opost; cat "+file)
	if status != 0 || out != data {
		t.Errorf("terminal: status %d, %d bytes, want %d", status, len(out), len(data))
	}
}

// What cannot be agreed on is logged as sshd does, for who searches logs for it.
func TestDisagreementIsLogged(t *testing.T) {
	r := start(t, nil)
	for option, want := range map[string]string{
		"Ciphers=aes128-cbc":                       "no matching cipher found. Their offer: aes128-cbc [preauth]",
		"MACs=hmac-md5":                            "no matching MAC found. Their offer: hmac-md5 [preauth]",
		"KexAlgorithms=diffie-hellman-group1-sha1": "no matching key exchange method found. Their offer: diffie-hellman-group1-sha1",
		"HostKeyAlgorithms=ssh-rsa":                "no matching host key type found. Their offer: ssh-rsa [preauth]",
	} {
		options := []string{"-o", option, "root@127.0.0.1", "true"}
		if strings.HasPrefix(option, "MACs") {
			options = append([]string{"-c", "aes128-ctr"}, options...)
		}
		if _, _, status := run(t, r.command(t, "ssh", options...)); status != 255 {
			t.Errorf("%s: status %d", option, status)
		}
		r.logs(t, "Unable to negotiate with 127.0.0.1 port")
		r.logs(t, "%s", want)
	}
}

// The log says which line let somebody in, at the level at which sshd's does.
func TestLineOfTheKeyIsLogged(t *testing.T) {
	r := start(t, func(r *rig, _ *Config) { r.config.settings.LogLevel = "VERBOSE" })
	r.ssh(t, "true")
	r.logs(t, "Accepted key ED25519 %s found at %s:1", ssh.FingerprintSHA256(r.key.PublicKey()), r.file("authorized_keys"))
}

// write(1) may write to the terminals of users, nobody else may.
func TestOwnerOfATerminal(t *testing.T) {
	r := start(t, nil)
	out, _, _ := r.ssh(t, "-tt", "stat -c '%U %G %a' $(tty)")
	if out != "root tty 620\r\n" {
		t.Errorf("terminal of %q", out)
	}
}

func TestInputOverSSH(t *testing.T) {
	r := start(t, nil)
	cmd := r.command(t, "ssh", "root@127.0.0.1", "wc -c")
	cmd.Stdin = strings.NewReader(strings.Repeat("x", 3<<20))
	if out, _, status := run(t, cmd); strings.TrimSpace(out) != fmt.Sprint(3<<20) || status != 0 {
		t.Errorf("%q, %d", out, status)
	}
}

// "ssh host yes | head": the client says that nobody reads any more.
func TestClosedPipeReachesTheCommand(t *testing.T) {
	r := start(t, nil)
	cmd := r.command(t, "ssh", "root@127.0.0.1", "yes")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	io.CopyN(io.Discard, out, 1<<20)
	out.Close()
	cmd.Wait()
	if status := cmd.ProcessState.ExitCode(); status < 0 {
		t.Errorf("ssh had to be killed: %s", cmd.ProcessState)
	}
}

func TestTerminalOverSSH(t *testing.T) {
	r := start(t, func(_ *rig, c *Config) { c.LoginMessage = "Welcome to the image." })
	cmd := r.command(t, "ssh", "-tt", "root@127.0.0.1")
	cmd.Stdin = strings.NewReader("echo $((6*7)) $SSH_TTY\nexit 3\n")
	out, _, status := run(t, cmd)
	if status != 3 || !strings.HasPrefix(out, "Welcome to the image.\r\n") || !strings.Contains(out, "42 /dev/pts/") {
		t.Errorf("status %d, %q", status, out)
	}
}

func TestSharedConnection(t *testing.T) {
	r := start(t, func(r *rig, _ *Config) { r.config.settings.MaxSessions = 6 })
	socket := r.file("mux")
	master := r.command(t, "ssh", "-M", "-N", "-S", socket, "root@127.0.0.1")
	if err := master.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the master's socket", func() bool { _, err := os.Stat(socket); return err == nil })
	var all sync.WaitGroup
	for i := range 6 {
		cmd := r.command(t, "ssh", "-S", socket, "root@127.0.0.1", fmt.Sprintf("echo session %d", i))
		all.Go(func() {
			if out, err := cmd.Output(); err != nil || string(out) != fmt.Sprintf("session %d\n", i) {
				t.Errorf("session %d: %q, %v", i, out, err)
			}
		})
	}
	all.Wait()
	master.Process.Signal(unix.SIGTERM)
	master.Wait()
	if n := strings.Count(r.log.String(), "Accepted publickey"); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

func TestTransfers(t *testing.T) {
	r := start(t, nil)
	data := strings.Repeat("image", 100000)
	write(t, r.file("local"), data, 0o600)
	write(t, r.file("batch"), "put "+r.file("local")+" "+r.file("by-sftp")+"\nls -l "+r.dir+"\n", 0o600)
	for name, cmd := range map[string]*exec.Cmd{
		"by-sftp":    r.command(t, "sftp", "-b", r.file("batch"), "root@127.0.0.1"),
		"by-scp":     r.command(t, "scp", r.file("local"), "root@127.0.0.1:"+r.file("by-scp")),
		"by-old-scp": r.command(t, "scp", "-O", r.file("local"), "root@127.0.0.1:"+r.file("by-old-scp")),
	} {
		if _, stderr, status := run(t, cmd); status != 0 {
			t.Errorf("%s: status %d, %s", name, status, stderr)
		}
		if got, err := os.ReadFile(r.file(name)); string(got) != data {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

// Nothing tells scp's user that a file was cut short, so every byte counts.
func TestLargeFilesArriveWhole(t *testing.T) {
	r := start(t, nil)
	data := make([]byte, 5<<20+3)
	rand.Read(data)
	write(t, r.file("large"), string(data), 0o600)
	for range 5 {
		for _, args := range [][]string{{"scp"}, {"scp", "-O"}, {"sftp", "-q"}} {
			os.Remove(r.file("got"))
			args = append(args, "root@127.0.0.1:"+r.file("large"), r.file("got"))
			if _, stderr, status := run(t, r.command(t, args[0], args[1:]...)); status != 0 {
				t.Errorf("%v: status %d, %s", args, status, stderr)
			}
			if got, err := os.ReadFile(r.file("got")); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%v: %d bytes of %d, or other ones: %v", args, len(got), len(data), err)
			}
		}
	}
}

func TestJailOverSSH(t *testing.T) {
	root := filepath.Join(trusted(t), "image-root")
	for _, program := range []string{"bash", "ls"} {
		copyProgram(t, root, program)
	}
	for _, dir := range []string{"root", "tmp", "etc"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r := start(t, func(r *rig, _ *Config) { r.config.settings.ChrootDirectory = root })
	if out, stderr, status := r.ssh(t, "pwd; echo inside >/tmp/by-shell"); out != "/root\n" || stderr != "" || status != 0 {
		t.Errorf("exec: %q, %q, %d", out, stderr, status)
	}
	if out, _, status := r.ssh(t, "-tt", "pwd"); out != "/root\r\n" || status != 0 {
		t.Errorf("terminal: %q, %d", out, status)
	}
	write(t, r.file("local"), "inside\n", 0o600)
	if _, stderr, status := run(t, r.command(t, "scp", r.file("local"), "root@127.0.0.1:/tmp/by-scp")); status != 0 {
		t.Errorf("scp: %s", stderr)
	}
	for _, name := range []string{"by-shell", "by-scp"} {
		if got, err := os.ReadFile(filepath.Join(root, "tmp", name)); string(got) != "inside\n" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if err := os.Chmod(root, 0o775); err != nil {
		t.Fatal(err)
	}
	_, stderr, status := r.ssh(t, "true")
	if status != 255 || !strings.Contains(stderr, "try chmod go-w "+root) {
		t.Errorf("unfit jail: %d, %q", status, stderr)
	}
	r.logs(t, "bad ownership or modes for chroot directory component")
}

// copyProgram puts a program and the libraries that it needs into a root.
func copyProgram(t *testing.T, root, program string) {
	t.Helper()
	file, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("needs %s: %v", program, err)
	}
	libraries, err := exec.Command("ldd", file).Output()
	if err != nil {
		t.Skipf("needs ldd: %v", err)
	}
	for _, word := range append(strings.Fields(string(libraries)), file) {
		if !filepath.IsAbs(word) {
			continue
		}
		to := filepath.Join(root, word)
		if word == file {
			to = filepath.Join(root, "bin", program)
		}
		text, err := os.ReadFile(word)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(to), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
		write(t, to, string(text), 0o755)
	}
}

func TestOtherRequests(t *testing.T) {
	r := start(t, nil)
	client := r.connect(t)
	for _, name := range []string{"keepalive@openssh.com", "tcpip-forward", "nonsense"} {
		if ok, _, err := client.SendRequest(name, true, nil); ok || err != nil {
			t.Errorf("%s: %v, %v; want an answer, a no", name, ok, err)
		}
	}
	_, err := client.Dial("tcp", r.Addrs()[0].String())
	if refused, ok := err.(*ssh.OpenChannelError); !ok || refused.Reason != ssh.Prohibited {
		t.Errorf("direct-tcpip: %v, want administratively prohibited", err)
	}
	if _, _, status := r.ssh(t, "-o", "ServerAliveInterval=1", "sleep 2"); status != 0 {
		t.Errorf("a client with ServerAliveInterval: status %d", status)
	}
}

func TestSlowCipherIsNotTheDefault(t *testing.T) {
	for _, explicit := range []bool{false, true} {
		r := start(t, func(r *rig, _ *Config) {
			if explicit {
				r.config.server.Ciphers = []string{ssh.CipherChaCha20Poly1305}
			}
		})
		fast := sshdconfig.QuickAES
		_, _, status := r.ssh(t, "-o", "Ciphers="+ssh.CipherChaCha20Poly1305, "true")
		if refused := status != 0; refused != (fast && !explicit) {
			t.Errorf("explicit %v, AES in the processor %v: status %d", explicit, fast, status)
		}
	}
}

func TestShutdown(t *testing.T) {
	r := start(t, nil)
	shell := r.command(t, "ssh", "-tt", "root@127.0.0.1")
	in, err := shell.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var screen journal
	shell.Stdout = &screen
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(in, "echo rea''dy")
	eventually(t, "a shell", func() bool { return strings.Contains(screen.String(), "ready") })

	// A command that makes the server end, and has something left to do then.
	fifo := r.file("fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	command := r.command(t, "ssh", "root@127.0.0.1", "echo running; read x <"+fifo+"; exit 0")
	var said journal
	command.Stdout = &said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a command", func() bool { return strings.Contains(said.String(), "running") })

	ended := make(chan error, 1)
	go func() { ended <- r.Shutdown(context.Background(), "The image is complete.") }()
	shell.Wait()
	if !strings.Contains(screen.String(), "\r\nThe image is complete.\r\n") {
		t.Errorf("the shell was told %q", screen.String())
	}
	write(t, fifo, "x\n", 0o600)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := command.Wait(); err != nil {
		t.Errorf("the command's client: %v", err)
	}
	if c, err := net.Dial("tcp", r.Addrs()[0].String()); err == nil {
		c.Close()
		t.Error("still listening")
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if open := r.open(); len(open) != 0 {
		t.Errorf("%d connections after Close", len(open))
	}
}

func TestAddressInUse(t *testing.T) {
	r := start(t, nil)
	other := &fixed{server: r.config.server, settings: r.config.settings}
	other.server.Listen = []string{r.Addrs()[0].String()}
	s, err := New(Config{Settings: other, Log: r.inForce.Load().log})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("second server: %v", err)
	}
}

func TestListenAddressesOfBothFamilies(t *testing.T) {
	port := freePort(t)
	r := start(t, func(r *rig, _ *Config) {
		r.config.server.Listen = []string{fmt.Sprintf("0.0.0.0:%d", port), fmt.Sprintf("[::]:%d", port)}
	})
	if c, err := net.Dial("tcp6", fmt.Sprintf("[::1]:%d", port)); err != nil {
		t.Skipf("needs IPv6: %v", err)
	} else {
		c.Close()
	}
	r.connect(t)
	only := start(t, func(r *rig, _ *Config) { r.config.server.Listen = []string{"0.0.0.0:0"} })
	if c, err := net.Dial("tcp6", fmt.Sprintf("[::1]:%d", addrPort(only.Addrs()[0]).Port())); err == nil {
		c.Close()
		t.Error("0.0.0.0 answers on ::1")
	}
}

func TestNetwork(t *testing.T) {
	for _, c := range []struct{ family, address, want string }{
		{"any", ":22", "tcp"}, {"any", "localhost:22", "tcp"}, {"any", "0.0.0.0:22", "tcp4"}, {"any", "[::]:22", "tcp6"},
		{"any", "[fe80::1%eth0]:22", "tcp6"}, {"inet", ":22", "tcp4"}, {"inet6", ":22", "tcp6"}, {"inet", "[::1]:22", "tcp4"},
	} {
		if got := network(c.family, c.address); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.family, c.address, got, c.want)
		}
	}
}

func TestLogLevel(t *testing.T) {
	for level, want := range map[string]struct{ listening, session bool }{
		"QUIET": {}, "ERROR": {}, "INFO": {listening: true}, "": {listening: true}, "VERBOSE": {true, true}, "DEBUG1": {true, true},
	} {
		r := start(t, func(r *rig, _ *Config) { r.config.settings.LogLevel = level })
		if _, stderr, status := r.ssh(t, "true"); status != 0 {
			t.Fatal(stderr)
		}
		if got := strings.Contains(r.log.String(), "Server listening"); got != want.listening {
			t.Errorf("%s: tells where it listens: %v", level, got)
		}
		if got := strings.Contains(r.log.String(), "Starting session: command"); got != want.session {
			t.Errorf("%s: tells of sessions: %v", level, got)
		}
	}
}

func TestSettingsThatShutRootOut(t *testing.T) {
	for name, c := range map[string]struct {
		settings sshdconfig.Settings
		want     string // "" for none
	}{
		"usual":             {sshdconfig.Settings{PermitRootLogin: "prohibit-password"}, ""},
		"PermitRootLogin":   {sshdconfig.Settings{PermitRootLogin: "no"}, "PermitRootLogin is no"},
		"AllowUsers":        {sshdconfig.Settings{AllowUsers: []string{"admin"}}, "User root from anywhere not allowed because not listed in AllowUsers"},
		"from there only":   {sshdconfig.Settings{AllowUsers: []string{"root@192.0.2.0/24"}}, ""},
		"DenyUsers":         {sshdconfig.Settings{DenyUsers: []string{"r*"}}, "listed in DenyUsers"},
		"not from there":    {sshdconfig.Settings{DenyUsers: []string{"root@192.0.2.0/24"}}, ""},
		"the group of root": {sshdconfig.Settings{AllowGroups: []string{"root"}}, ""},
	} {
		var log journal
		c.settings.PubkeyAuthentication, c.settings.AuthorizedKeysFiles = true, []string{"/keys"}
		if _, err := New(Config{Settings: &fixed{settings: c.settings}, HostKeyDir: t.TempDir(), Log: slog.New(slog.NewTextHandler(&log, nil))}); err != nil {
			t.Fatal(err)
		}
		if warned := strings.Contains(log.String(), "root cannot log in"); warned != (c.want != "") || !strings.Contains(log.String(), c.want) {
			t.Errorf("%s: log %q, want %q", name, log.String(), c.want)
		}
	}
}

func TestNewNeedsAnAuthenticator(t *testing.T) {
	for name, settings := range map[string]sshdconfig.Settings{
		"no keys":  {PubkeyAuthentication: false, AuthorizedKeysFiles: []string{"/keys"}},
		"no files": {PubkeyAuthentication: true},
	} {
		if _, err := New(Config{Settings: &fixed{settings: settings}}); err == nil || !strings.Contains(err.Error(), "nobody could log in") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
