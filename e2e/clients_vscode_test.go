package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// vscodeScript is what an editor sends to the remote shell at its start: it
// starts a server that outlives the session, says where it listens, and stays.
const vscodeScript = `cd FOLDER
setsid /usr/bin/python3 -u -m http.server --bind 127.0.0.1 0 >server.log 2>&1 </dev/null &
echo $! >server.pid
until grep -qs 'port [0-9]' server.log; do sleep 0.1; done
echo "listeningOn==$(sed -n 's/.* port \([0-9]*\) .*/\1/p' server.log | head -n 1)=="
while read -r line; do echo "alive $line"; done
`

// workVSCode is the start-up of an editor with a server on the other side: two
// windows, one after another, reach the same server through their SOCKS ports.
func workVSCode(t *testing.T, v *visit) {
	content := noise(1 << 20)
	must(t, os.WriteFile(v.here(v.at("content")), content, 0o644))
	first := openWindow(t, v, "sh")
	t.Cleanup(func() { v.endServer(t) })
	first.say(t, strings.ReplaceAll(vscodeScript, "FOLDER", v.folder))
	server := regexp.MustCompile(`^listeningOn==(\d+)==$`).FindStringSubmatch(first.line(t))
	if server == nil {
		t.Fatalf("the script did not say where its server listens")
	}
	first.say(t, "ping\n")
	if got := first.line(t); got != "alive ping" {
		t.Errorf("the script answers %q", got)
	}
	first.wantFetched(t, server[1], string(content))
	first.close(t)

	second := openWindow(t, v, "cat")
	second.wantFetched(t, server[1], string(content))
	second.close(t)
}

// endServer ends what the script has started.
func (v *visit) endServer(t *testing.T) {
	pid, err := os.ReadFile(v.here(v.at("server.pid")))
	if err != nil {
		t.Error(err)
		return
	}
	v.use(t, nil, v.openSSH("ssh", "job", "kill "+strings.TrimSpace(string(pid)))...)
}

// A window is a client whose session stays open, with a SOCKS port.
type window struct {
	client *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
	socks  string
}

func openWindow(t *testing.T, v *visit, command string) *window {
	t.Helper()
	port, err := freePort()
	must(t, err)
	w := &window{client: exec.Command("ssh", "-F", v.config, "-T", "-o", "ExitOnForwardFailure=yes", "-D", "127.0.0.1:"+port, "job", command), socks: "127.0.0.1:" + port}
	w.client.Stderr = os.Stderr
	w.stdin, err = w.client.StdinPipe()
	must(t, err)
	stdout, err := w.client.StdoutPipe()
	must(t, err)
	w.stdout = bufio.NewReader(stdout)
	must(t, w.client.Start())
	limit := time.AfterFunc(clientTime, func() { w.client.Process.Kill() }) // ends what waits for it
	t.Cleanup(func() {
		limit.Stop()
		w.client.Process.Kill()
	})
	must(t, poll(func() bool { return accepts(w.socks) }))
	return w
}

func (w *window) say(t *testing.T, text string) {
	t.Helper()
	_, err := io.WriteString(w.stdin, text)
	must(t, err)
}

func (w *window) line(t *testing.T) string {
	t.Helper()
	line, err := w.stdout.ReadString('\n')
	must(t, err)
	return strings.TrimSuffix(line, "\n")
}

// wantFetched fetches the file content of a server on the other side.
func (w *window) wantFetched(t *testing.T, port, want string) {
	t.Helper()
	through := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "socks5", Host: w.socks})}
	defer through.CloseIdleConnections()
	client := http.Client{Transport: through, Timeout: patience}
	response, err := client.Get(fmt.Sprintf("http://127.0.0.1:%s/content", port))
	if err != nil {
		t.Fatalf("through the SOCKS port: %v", err)
	}
	defer response.Body.Close()
	if got, err := io.ReadAll(response.Body); err != nil || string(got) != want {
		t.Errorf("through the SOCKS port: got %d bytes and %v, want other %d bytes", len(got), err, len(want))
	}
}

// close takes the window away as an editor does: the client is told to end.
func (w *window) close(t *testing.T) {
	t.Helper()
	must(t, w.client.Process.Signal(syscall.SIGTERM))
	w.client.Wait()
}
