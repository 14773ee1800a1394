package entrypoint

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

func TestNotifyService(t *testing.T) {
	var log bytes.Buffer
	c := &sshdCommand{logs: newSSHDLogs(&log)}
	name := filepath.Join(t.TempDir(), "notify")
	t.Setenv("NOTIFY_SOCKET", name)
	c.notifyService(serviceReady)
	if !strings.HasPrefix(log.String(), "systemd not notified: ") {
		t.Errorf("without a socket the log says %q", &log)
	}
	conn := listenDatagrams(t, name)
	for _, state := range []string{serviceReady, serviceReloading(), serviceStopping} {
		c.notifyService(state)
		got := make([]byte, 128)
		n, err := conn.Read(got)
		if err != nil || string(got[:n]) != state {
			t.Errorf("%q, %v; want %q", got[:n], err, state)
		}
	}
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("%d lines in the log, want the one before:\n%s", n, &log)
	}
}
