package sshd

import (
	"errors"
	"log/slog"
	"os"
	"testing"

	"golang.org/x/crypto/ssh"
)

// TestStopListening: who is connected works on, as sshd's sessions do after its
// listener has ended, keys that a command finds included.
func TestStopListening(t *testing.T) {
	r := start(t, nil)
	client := r.connect(t)
	if err := r.StopListening(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.dial("root", ssh.PublicKeys(r.key)); err == nil {
		t.Error("a client connected after the end of listening")
	}
	if err := r.reload(t, func(*fixed) {}); !errors.Is(err, errStopped) {
		t.Errorf("reload: %v, want %v", err, errStopped)
	}
	if out, err := output(client, "echo here"); out != "here\n" || err != nil {
		t.Errorf("session after the end of listening: %q, %v", out, err)
	}
	if r.stopping.Err() != nil {
		t.Error("what a handshake needs has been called off")
	}
	left := r.left()
	select {
	case <-left:
		t.Error("nobody is left, though a client is connected")
	default:
	}
	client.Close()
	r.Wait(t.Context())
	<-left
}

// TestOnce: what sshd -d does.
func TestOnce(t *testing.T) {
	r := start(t, func(_ *rig, c *Config) { c.Once = true })
	client := r.connect(t)
	if second, err := r.dial("root", ssh.PublicKeys(r.key)); err == nil {
		second.Close()
		t.Error("a second client was served")
	}
	if out, err := output(client, "echo here"); out != "here\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	client.Close()
	r.Wait(t.Context())
}

// TestKeepHostKeys: where keys are not made, there is no server without one, and
// no file appears.
func TestKeepHostKeys(t *testing.T) {
	dir := t.TempDir()
	c := Config{Settings: someSettings(), HostKeyDir: dir, KeepHostKeys: true, Log: slog.New(slog.DiscardHandler)}
	server, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Check(t.Context()); !errors.Is(err, ErrNoHostKeys) {
		t.Errorf("without keys: %v, want %v", err, ErrNoHostKeys)
	}
	if err := server.Start(t.Context()); !errors.Is(err, ErrNoHostKeys) {
		t.Errorf("start without keys: %v, want %v", err, ErrNoHostKeys)
	}
	newKey(t, dir+"/ssh_host_ecdsa_key")
	if server, err = New(c); err != nil {
		t.Fatal(err)
	}
	if err := server.Check(t.Context()); err != nil {
		t.Error(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Errorf("files: %v, %v", files, err)
	}
}

func TestGroups(t *testing.T) {
	if got := Groups("no-such-user"); got != nil {
		t.Errorf("groups of nobody: %q", got)
	}
	if got := Groups("root"); len(got) == 0 || got[0] != "root" {
		t.Errorf("groups of root: %q", got)
	}
}

func someSettings() *fixed {
	f := &fixed{}
	f.settings.PermitRootLogin, f.settings.PubkeyAuthentication, f.settings.AuthorizedKeysFiles = "yes", true, []string{"keys"}
	return f
}
