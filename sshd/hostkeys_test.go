package sshd

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"buildenv/sshd/sshdconfig"
)

var allHostKeys = ssh.SupportedAlgorithms().HostKeys

// keysIn loads and makes the default keys of a directory.
func keysIn(t *testing.T, dir string, log *journal) *hostKeys {
	t.Helper()
	h := loadHostKeys(sshdconfig.Server{}, Config{HostKeyDir: dir}, allHostKeys, slog.New(slog.NewTextHandler(log, nil)))
	missing, err := h.prepare()
	if err != nil {
		t.Fatal(err)
	}
	if len(h.all()) == 0 {
		t.Fatal("no host key to begin with")
	}
	h.generate(t.Context(), missing)
	return h
}

func fingerprints(h *hostKeys) []string {
	var prints []string
	for _, s := range h.all() {
		prints = append(prints, ssh.FingerprintSHA256(s.PublicKey()))
	}
	return prints
}

func TestHostKeysAreMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etc", "ssh")
	first := fingerprints(keysIn(t, dir, &journal{}))
	if len(first) != 3 {
		t.Fatalf("%d keys, want 3", len(first))
	}
	for i, k := range keyKinds {
		name := filepath.Join(dir, k.file)
		wantMode(t, name, 0o600)
		wantMode(t, name+".pub", 0o644)
		for _, file := range []string{name, name + ".pub"} {
			out, err := exec.Command("ssh-keygen", "-l", "-f", file).CombinedOutput()
			if err != nil || !strings.Contains(string(out), first[i]) {
				t.Errorf("ssh-keygen -l %s: %s (%v), want %s", file, out, err, first[i])
			}
		}
	}
	if again := fingerprints(keysIn(t, dir, &journal{})); !slices.Equal(first, again) {
		t.Errorf("second start: %v, want %v", again, first)
	}
	os.Remove(filepath.Join(dir, "ssh_host_ecdsa_key"))
	third := fingerprints(keysIn(t, dir, &journal{}))
	slices.Sort(first)
	slices.Sort(third)
	if same := slices.DeleteFunc(third, func(p string) bool { return !slices.Contains(first, p) }); len(same) != 2 {
		t.Errorf("only the missing key is made anew: kept %v of %v", same, first)
	}
}

func wantMode(t *testing.T, name string, want fs.FileMode) {
	t.Helper()
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
		t.Errorf("%s: %v, %v; want mode %o", name, info, err, want)
	}
}

func TestHostKeysWithoutAFolder(t *testing.T) {
	var log journal
	h := loadHostKeys(sshdconfig.Server{}, Config{HostKeyDir: "/proc/self/no-such-folder"}, allHostKeys, slog.New(slog.NewTextHandler(&log, nil)))
	if _, err := h.prepare(); err != nil || len(h.all()) != 1 {
		t.Errorf("%d keys, %v", len(h.all()), err)
	}
	if !strings.Contains(log.String(), "in memory only") {
		t.Errorf("log %q", log.String())
	}
}

func TestExplicitHostKeys(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good"), filepath.Join(dir, "bad")
	newKey(t, good)
	write(t, bad, "nonsense", 0o600)
	for name, c := range map[string]struct {
		files      []string
		algorithms []string
		complaint  string // in the log, "" for none
		keys       int
	}{
		"good":             {[]string{good}, allHostKeys, "", 1},
		"missing":          {[]string{filepath.Join(dir, "none")}, allHostKeys, "no such file", 0},
		"one unreadable":   {[]string{bad, good}, allHostKeys, "Unable to load host key: " + bad, 1},
		"default, missing": {[]string{filepath.Join(dir, "ssh_host_ecdsa_key")}, allHostKeys, "", 1},
		"no algorithm":     {[]string{good}, []string{ssh.KeyAlgoRSASHA256}, "", 0},
	} {
		var log journal
		h := loadHostKeys(sshdconfig.Server{HostKeys: c.files}, Config{HostKeyDir: dir}, c.algorithms, slog.New(slog.NewTextHandler(&log, nil)))
		if complained := strings.Contains(log.String(), "level=ERROR"); complained != (c.complaint != "") || !strings.Contains(log.String(), c.complaint) {
			t.Errorf("%s: log %q, want %q", name, log.String(), c.complaint)
		}
		_, err := h.prepare()
		if len(h.all()) != c.keys || (err == nil) != (c.keys > 0) {
			t.Errorf("%s: %d keys, %v; want %d", name, len(h.all()), err, c.keys)
		}
	}
}

// TestHostKeysOpenToOthers: which files both servers take for a secret.
func TestHostKeysOpenToOthers(t *testing.T) {
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil || os.Geteuid() != 0 {
		t.Skip("needs sshd and root")
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		mode fs.FileMode
		uid  int
		good bool
	}{
		{0o600, 0, true}, {0o400, 0, true}, {0o700, 0, true}, {0o640, 0, false}, {0o604, 0, false}, {0o610, 0, false},
		{0o666, 0, false}, {0o644, 1, true},
	} {
		dir := t.TempDir()
		name := filepath.Join(dir, "ssh_host_ed25519_key")
		newKey(t, name)
		if err := errors.Join(os.Chown(name, c.uid, 0), os.Chmod(name, c.mode)); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "config"), "HostKey "+name+"\n", 0o600)
		if said, err := exec.Command(sshd, "-t", "-f", filepath.Join(dir, "config")).CombinedOutput(); (err == nil) != c.good {
			t.Errorf("sshd: mode %o of uid %d: %v, %s", c.mode, c.uid, err, said)
		}
		var log journal
		h := loadHostKeys(sshdconfig.Server{HostKeys: []string{name}}, Config{HostKeyDir: dir}, allHostKeys, slog.New(slog.NewTextHandler(&log, nil)))
		if _, err := h.prepare(); (err == nil) != c.good {
			t.Errorf("mode %o of uid %d: %v", c.mode, c.uid, err)
		}
		if told := strings.Contains(log.String(), "UNPROTECTED PRIVATE KEY FILE"); told == c.good {
			t.Errorf("mode %o of uid %d: log %q", c.mode, c.uid, log.String())
		}
		before, err := os.Stat(name)
		if err != nil || before.Mode().Perm() != c.mode {
			t.Errorf("the file was changed: %v, %v", before, err)
		}
	}
}
