package sshd

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// editorScript is what an editor sends to the remote shell at its start: it starts
// a server that outlives the session, says so, and stays for pings.
const editorScript = `busybox setsid busybox httpd -f -p 127.0.0.1:PORT -h FOLDER >FOLDER/server.log 2>&1 </dev/null &
echo "started $!"
while read -r line; do echo "alive $line"; done
`

// TestEditorStartup is how VS Code's remote editing comes up (ssh -T -D PORT host
// sh): its server is reached through the SOCKS port, also by the next window, when
// the session that has started it is gone.
func TestEditorStartup(t *testing.T) {
	for _, jailed := range []bool{false, true} {
		t.Run(names[jailed], func(t *testing.T) {
			r := startForwarding(t, jailed, nil)
			folder := editorRoot(t, r)
			content := noise(1 << 20)
			write(t, filepath.Join(r.here(folder), "content"), string(content), 0o644)
			port := fmt.Sprint(freePort(t))
			first := r.window(t, "sh")
			io.WriteString(first.stdin, strings.NewReplacer("PORT", port, "FOLDER", folder).Replace(editorScript))
			pid := 0
			if _, err := fmt.Sscanf(first.line(t), "started %d", &pid); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Kill(pid, unix.SIGKILL) })
			io.WriteString(first.stdin, "ping\n")
			if got := first.line(t); got != "alive ping" {
				t.Errorf("the script answers %q", got)
			}
			first.wantFetched(t, port, content)
			first.close()
			eventually(t, "the end of the window", func() bool { return len(r.open()) == 0 })
			second := r.window(t, "cat")
			second.wantFetched(t, port, content)
			second.close()
		})
	}
}

// editorRoot is the folder, as the user names it, of what the script needs; a jail
// gets a shell, too.
func editorRoot(t *testing.T, r *rig) string {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("needs busybox")
	}
	if r.config.settings.ChrootDirectory == "" {
		return t.TempDir()
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"/bin", "/dev", "/work"} {
		if err := os.Mkdir(r.here(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"/bin/busybox", "/bin/sh", "/bin/cat"} {
		write(t, r.here(name), string(program), 0o755)
	}
	write(t, r.here("/dev/null"), "", 0o600)
	return "/work"
}

// A window is a client whose session stays open, with a SOCKS port.
type window struct {
	*exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
	socks  string
}

func (r *rig) window(t *testing.T, command string) *window {
	t.Helper()
	w := &window{socks: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
	w.Cmd = r.command(t, "ssh", "-T", "-o", "ExitOnForwardFailure=yes", "-D", w.socks, "root@127.0.0.1", command)
	w.Stderr = t.Output()
	stdin, err1 := w.StdinPipe()
	stdout, err2 := w.StdoutPipe()
	if err := errors.Join(err1, err2, w.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	w.stdin, w.stdout = stdin, bufio.NewReader(stdout)
	return w
}

func (w *window) line(t *testing.T) string {
	t.Helper()
	line, err := w.stdout.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(line, "\n")
}

// wantFetched fetches the file content of a server on the other side. Neither the
// client nor the server need listen yet.
func (w *window) wantFetched(t *testing.T, port string, want []byte) {
	t.Helper()
	through := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "socks5", Host: w.socks})}
	defer through.CloseIdleConnections()
	client := http.Client{Transport: through, Timeout: patience}
	var got []byte
	eventually(t, "an answer through the SOCKS port", func() bool {
		response, err := client.Get("http://127.0.0.1:" + port + "/content")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		got, err = io.ReadAll(response.Body)
		return err == nil
	})
	if !bytes.Equal(got, want) {
		t.Errorf("through the SOCKS port: got %d bytes, want other %d bytes", len(got), len(want))
	}
}

// close takes the window away as an editor does: the client is told to end.
func (w *window) close() {
	w.Process.Signal(unix.SIGTERM)
	w.Wait()
}
