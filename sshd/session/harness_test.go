package session

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// patience bounds every wait of a test that would otherwise hang.
const patience = 20 * time.Second

// newLogin is a login of root that may do everything; tests change it.
func newLogin(t testing.TB) *Login {
	home := t.TempDir()
	return &Login{
		Account: Account{Name: "root", Home: home, Shell: "/bin/bash"},
		Policy:  Policy{PermitTTY: true, MaxSessions: 10, Subsystems: map[string]string{"sftp": "internal-sftp"}},
		Remote:  netip.MustParseAddrPort("192.0.2.1:4321"),
		Local:   netip.MustParseAddrPort("192.0.2.2:22"),
		Table:   &Table{},
		Log:     slog.New(slog.NewTextHandler(t.Output(), nil)),
		Audit:   slog.New(slog.DiscardHandler),
	}
}

// dial connects a client with l over TCP. Authentication is not the subject here.
func dial(t testing.TB, l *Login) *ssh.Client {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.Ciphers = []string{ssh.CipherAES128GCM} // the others are slow under the race detector
	config.AddHostKey(signer)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		serveOne(listener, config, l)
	}()
	client, err := ssh.Dial("tcp", listener.Addr().String(), &ssh.ClientConfig{HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		<-served
	})
	return client
}

func serveOne(listener net.Listener, config *ssh.ServerConfig, l *Login) {
	defer listener.Close()
	c, err := listener.Accept()
	if err != nil {
		return
	}
	_, channels, requests, err := ssh.NewServerConn(c, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	var sessions sync.WaitGroup
	for ch := range channels {
		sessions.Go(func() { l.Serve(ch) })
	}
	sessions.Wait()
}

// raw is a session channel without the client library's session on it.
type raw struct {
	ssh.Channel
	requests <-chan *ssh.Request
}

func open(t testing.TB, c *ssh.Client) raw {
	t.Helper()
	ch, requests, err := c.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	return raw{ch, requests}
}

// ask sends a request and wants it granted or not.
func (r raw) ask(t testing.TB, want bool, kind string, payload any) {
	t.Helper()
	var data []byte
	if payload != nil {
		data = ssh.Marshal(payload)
	}
	got, err := r.SendRequest(kind, true, data)
	if err != nil || got != want {
		t.Fatalf("%s: granted %v (%v), want %v", kind, got, err, want)
	}
}

type text struct{ Value string }

// all reads standard output to its end and gives the requests after it.
func (r raw) all(t *testing.T) (string, []*ssh.Request) {
	t.Helper()
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	var requests []*ssh.Request
	for q := range r.requests {
		requests = append(requests, q)
	}
	return string(out), requests
}

type ptyRequest struct {
	Term                         string
	Columns, Rows, Width, Height uint32
	Modes                        string
}

// run runs a command and gives its outputs and exit status, -1 for a signal.
func run(t *testing.T, c *ssh.Client, command, stdin string) (stdout, stderr string, status int) {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var out, errOut bytes.Buffer
	s.Stdin, s.Stdout, s.Stderr = strings.NewReader(stdin), &out, &errOut
	err = s.Run(command)
	if exit, ok := err.(*ssh.ExitError); ok {
		status = exit.ExitStatus()
		if exit.Signal() != "" {
			status = -1
		}
	} else if err != nil {
		t.Fatalf("run %s: %v", command, err)
	}
	return out.String(), errOut.String(), status
}

// within fails the test if f takes for ever.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s: hangs", what)
	}
}

// eventually polls a condition that another process makes true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	if !await(t.Context(), patience, nil, f) {
		t.Fatalf("%s: not in time", what)
	}
}

func needRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for chroot")
	}
}

// copyProgram puts a program and the libraries that it needs into a root.
func copyProgram(t *testing.T, root, program string) {
	t.Helper()
	real, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("needs %s: %v", program, err)
	}
	libraries, err := exec.Command("ldd", real).Output()
	if err != nil {
		t.Skipf("needs ldd: %v", err)
	}
	copyFile(t, real, filepath.Join(root, "bin", filepath.Base(real)))
	for _, word := range strings.Fields(string(libraries)) {
		if filepath.IsAbs(word) {
			copyFile(t, word, filepath.Join(root, word))
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o755)
	}
	if err == nil {
		err = os.WriteFile(to, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}
