package forward

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

// agentRoot is an image root to chroot into.
func agentRoot(t *testing.T, dirs ...string) string {
	if os.Geteuid() != 0 {
		t.Skip("needs root for chroot")
	}
	root := t.TempDir()
	for _, dir := range dirs {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestAgentSocket(t *testing.T) {
	root := agentRoot(t, "tmp")
	f := newForwarder(t, Config{Root: root, Policy: open}, nil)
	socket, err := f.Agent()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := f.Agent(); err != nil || again != socket {
		t.Errorf("second session: %q, %v, want %q", again, err, socket)
	}
	for name, want := range map[string]os.FileMode{socket: os.ModeSocket | 0o600, filepath.Dir(socket): os.ModeDir | 0o700} {
		if info, err := os.Lstat(root + name); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", name, info, err, want)
		}
	}
	if match, _ := filepath.Match("/tmp/ssh-*/agent.*", socket); !match {
		t.Errorf("%s: programs would not find it", socket)
	}
	f.Stop()
	wantEmpty(t, root+"/tmp")
}

func TestAgentNotAllowed(t *testing.T) {
	root := agentRoot(t, "tmp")
	f := newForwarder(t, Config{Root: root, Policy: but(func(p *Policy) { p.Agent = false })}, nil)
	if socket, err := f.Agent(); err == nil || f.AllowAgent() {
		t.Errorf("got %q", socket)
	}
	wantEmpty(t, root+"/tmp")
}

// What an image has in the place of /tmp may lead anywhere.
func TestAgentPlace(t *testing.T) {
	root := agentRoot(t, "run", "elsewhere")
	if err := os.Symlink("/elsewhere", root+"/tmp"); err != nil {
		t.Fatal(err)
	}
	f := newForwarder(t, Config{Root: root, Policy: open}, nil)
	if socket, err := f.Agent(); err != nil || filepath.Dir(filepath.Dir(socket)) != "/run" {
		t.Errorf("%q, %v, want one in /run", socket, err)
	}
	f.Stop()
	wantEmpty(t, root+"/run")
	g := newForwarder(t, Config{Root: agentRoot(t, "etc"), Policy: open}, nil)
	if socket, err := g.Agent(); err == nil {
		t.Errorf("%q, though there is no place for it", socket)
	}
}

func TestSweep(t *testing.T) {
	root := agentRoot(t, "tmp", "run", "tmp/ssh-other", "tmp/"+agentPrefix+"mine", "run/"+agentPrefix+"1")
	for _, name := range []string{"/tmp/" + agentPrefix + "mine/agent.1", "/run/" + agentPrefix + "1/agent.2", "/tmp/ssh-other/agent.3"} {
		l, err := net.Listen("unix", root+name)
		if err != nil {
			t.Fatal(err)
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		l.Close()
	}
	kept := "/tmp/" + agentPrefix + "mine/notes"
	if err := os.WriteFile(root+kept, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/tmp/ssh-other", root+"/tmp/"+agentPrefix+"link"); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(root); err != nil {
		t.Error(err)
	}
	for _, name := range []string{kept, "/tmp/ssh-other/agent.3"} {
		if _, err := os.Lstat(root + name); err != nil {
			t.Errorf("somebody else's is gone: %v", err)
		}
	}
	if _, err := os.Lstat(root + "/tmp/" + agentPrefix + "mine/agent.1"); err == nil {
		t.Error("a socket is left")
	}
	wantEmpty(t, root+"/run")
	for _, root := range []string{agentRoot(t), agentRoot(t) + "/none"} {
		if err := Sweep(root); err != nil {
			t.Errorf("nothing to sweep: %v", err)
		}
	}
}

func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left in %s: %v, %v", dir, left, err)
	}
}
