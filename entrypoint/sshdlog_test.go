package entrypoint

import (
	"bytes"
	"log/slog"
	"log/syslog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// listenDatagrams is a system log, or another receiver, that a test reads.
func listenDatagrams(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	return conn
}

func TestSystemLog(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	var stderr bytes.Buffer
	system := &systemLog{instead: messageLog{&stderr}, address: name, facility: syslog.LOG_AUTH}
	log := slog.New(system)

	log.Info("nobody listens yet")
	if stderr.String() != "nobody listens yet\n" {
		t.Errorf("without a system log: %q", &stderr)
	}

	conn := listenDatagrams(t, name)
	for _, c := range []struct {
		say  func()
		want string
	}{
		{func() { log.Info("Server listening") }, `^<38>.* sshd\[\d+\]: Server listening\n$`},
		{func() { log.Warn("odd", "error", "no such file") }, `^<36>.*: odd: no such file\n$`},
		{func() { log.Info("Invalid user x from 192.0.2.1 port 5", "reason", "no such user") }, `^<38>.*: Invalid user x from 192\.0\.2\.1 port 5\n$`},
		{func() {}, `^<38>.*: reason: no such user\n$`},
		{func() { log.Error("bad\nline") }, `^<35>.*: bad; line\n$`},
		{func() { log.Log(t.Context(), slog.LevelError+4, "fatal") }, `^<34>.*: fatal\n$`},
		{func() { system.change(syslog.LOG_LOCAL7); log.Info("moved") }, `^<190>.*: moved\n$`},
	} {
		c.say()
		line := make([]byte, 1024)
		n, err := conn.Read(line)
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(c.want).Match(line[:n]) {
			t.Errorf("%q, want %s", line[:n], c.want)
		}
	}
	if strings.Count(stderr.String(), "\n") != 1 {
		t.Errorf("on stderr besides the system log: %q", &stderr)
	}
}

func TestMessageLog(t *testing.T) {
	var text bytes.Buffer
	log := slog.New(messageLog{&text})
	log.Info("plain")
	log.Info("refused", "reason", "one\ntwo")
	log.Warn("no more sessions", "from", "192.0.2.1:5", "most", 10, "error", os.ErrExist)
	log.Debug("unseen")
	log.Info("channel refused", "type", "é\x1b[2J\r\nAccepted\u009b"+strings.Repeat("x", 2*maxValue))
	want := "plain\nrefused: one; two\nno more sessions (from=192.0.2.1:5, most=10): file already exists\n" +
		`channel refused (type=é\x1b[2J\r; Accepted\u009b`
	if got := text.String(); !strings.HasPrefix(got, want+"xxx") || len(got) > len(want)+maxValue || !strings.HasSuffix(got, "x…)\n") {
		t.Errorf("%.300q, want %q", got, want)
	}
}

// TestFacilities: every name that sshd_config knows has a number.
func TestFacilities(t *testing.T) {
	for _, name := range strings.Fields("DAEMON USER AUTH AUTHPRIV LOCAL0 LOCAL1 LOCAL2 LOCAL3 LOCAL4 LOCAL5 LOCAL6 LOCAL7") {
		if _, known := facilities[name]; !known {
			t.Errorf("%s is unknown", name)
		}
	}
}

// TestLogFileFollowsItsName: a log that has been moved away is begun anew.
func TestLogFileFollowsItsName(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	f, err := openLogFile(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.Write([]byte("one\n"))
	if err := os.Rename(name, name+".1"); err != nil {
		t.Fatal(err)
	}
	f.Write([]byte("two\n"))
	if err := f.reopen(); err != nil {
		t.Fatal(err)
	}
	f.Write([]byte("three\n"))
	for file, want := range map[string]string{name: "three\n", name + ".1": "one\ntwo\n"} {
		if got, err := os.ReadFile(file); string(got) != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", file, got, err, want)
		}
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	if err := os.RemoveAll(filepath.Dir(name)); err != nil {
		t.Fatal(err)
	}
	if f.reopen() == nil {
		t.Error("opened anew in a folder that is gone")
	}
	if _, err := f.Write([]byte("four\n")); err != nil {
		t.Errorf("after an attempt that failed: %v", err)
	}
}
