package sshd

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestLocalForwarding(t *testing.T) {
	for _, jailed := range []bool{false, true} {
		t.Run(names[jailed], func(t *testing.T) {
			r := startForwarding(t, jailed, nil)
			tcp := answerer(t, "tcp", "127.0.0.1:0").Addr().(*net.TCPAddr)
			path := "/answerer.sock"
			if !jailed {
				path = filepath.Join(t.TempDir(), "answerer.sock")
			}
			answerer(t, "unix", r.here(path))
			for name, target := range map[string]string{
				"address": fmt.Sprintf("127.0.0.1:%d", tcp.Port),
				"name":    fmt.Sprintf("localhost:%d", tcp.Port),
				"socket":  path,
			} {
				entry := filepath.Join(t.TempDir(), "entry.sock")
				c := r.forward(t, "-L", entry+":"+target)
				waitForSocket(t, entry)
				for _, size := range []int{0, 1, 3 << 20} {
					if err := exchange("unix", entry, noise(size)); err != nil {
						t.Errorf("%s, %d bytes: %v", name, size, err)
					}
				}
				c.end()
			}
		})
	}
}

// In a jail a link leads where it leads in there.
func TestSocketsOfAJail(t *testing.T) {
	r := startForwarding(t, true, nil)
	if err := os.MkdirAll(r.here("/run/deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "outside.sock")
	answerer(t, "unix", outside)
	answerer(t, "unix", r.here("/run/deep/inside.sock"))
	for link, to := range map[string]string{"/absolute": "/run/deep", "/upward": "../../../../run/deep", "/out": filepath.Dir(outside)} {
		if err := os.Symlink(to, r.here(link)); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]bool{
		"/absolute/inside.sock": true, "/upward/inside.sock": true, "/out/outside.sock": false,
		outside: false, "/../../../.." + outside: false,
	} {
		entry := filepath.Join(t.TempDir(), "entry.sock")
		c := r.forward(t, "-L", entry+":"+path)
		waitForSocket(t, entry)
		if err := exchange("unix", entry, []byte("hello")); (err == nil) != want {
			t.Errorf("%s: %v, reachable must be %v", path, err, want)
		}
		c.end()
	}
	c := r.forward(t, "-R", "/out/new.sock:/nowhere")
	c.said(t, "remote port forwarding failed")
	r.forward(t, "-R", "/absolute/new.sock:"+outside)
	eventually(t, "a socket behind a link", func() bool { return exchange("unix", r.here("/run/deep/new.sock"), []byte("hello")) == nil })
}

func TestStandardInputForwarding(t *testing.T) {
	r := startForwarding(t, false, nil)
	l := answerer(t, "tcp", "127.0.0.1:0")
	said := noise(1 << 20)
	cmd := r.command(t, "ssh", "-W", l.Addr().String(), "root@127.0.0.1")
	cmd.Stdin = bytes.NewReader(said)
	if out, errOut, status := run(t, cmd); status != 0 || out != string(said)+string(said) {
		t.Errorf("status %d, %d bytes, %s", status, len(out), errOut)
	}
}

func TestDynamicForwarding(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("needs curl")
	}
	content := noise(2 << 20)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(content) }))
	defer web.Close()
	_, webPort, _ := net.SplitHostPort(web.Listener.Addr().String())
	r := startForwarding(t, true, nil)
	port := freePort(t)
	r.forward(t, "-D", fmt.Sprintf("127.0.0.1:%d", port))
	for _, proxy := range []string{"--socks4", "--socks4a", "--socks5", "--socks5-hostname"} {
		var out []byte
		eventually(t, "curl "+proxy, func() (ok bool) { // the client may not listen yet
			var err error
			out, err = exec.Command("curl", "-sS", proxy, fmt.Sprintf("127.0.0.1:%d", port), "http://localhost:"+webPort+"/").Output()
			return err == nil
		})
		if !bytes.Equal(out, content) {
			t.Errorf("%s: got %d bytes", proxy, len(out))
		}
	}
}
