package sshd

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// record is a line of the audit.
type record map[string]any

// records are the events of a journal that have a name with prefix.
func records(t *testing.T, audit *journal, prefix string) (found []record) {
	t.Helper()
	for line := range strings.Lines(audit.String()) {
		var r record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if event, _ := r["event"].(string); strings.HasPrefix(event, prefix) {
			found = append(found, r)
		}
	}
	return found
}

// wantRecord compares all fields but the time, which must be one. Where a value
// differs by chance want has a function.
func wantRecord(t *testing.T, got, want record) {
	t.Helper()
	if _, err := time.Parse(time.RFC3339Nano, got["time"].(string)); err != nil {
		t.Error(err)
	}
	delete(got, "time")
	if a, b := slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)); !slices.Equal(a, b) {
		t.Errorf("%s: fields %q, want %q", got["event"], a, b)
	}
	for key, value := range want {
		if check, ok := value.(func(any) bool); ok && !check(got[key]) || !ok && got[key] != value {
			t.Errorf("%s: %s is %v, want %v", got["event"], key, got[key], value)
		}
	}
}

func startsWith(prefix string) func(any) bool {
	return func(v any) bool { text, ok := v.(string); return ok && strings.HasPrefix(text, prefix) }
}

func contains(part string) func(any) bool {
	return func(v any) bool { text, ok := v.(string); return ok && strings.Contains(text, part) }
}

func positive(v any) bool { n, ok := v.(float64); return ok && n > 0 }

// audited starts a server whose audit can be read.
func audited(t *testing.T, change func(*rig)) (*rig, *journal) {
	audit := &journal{}
	return start(t, func(r *rig, c *Config) {
		c.Audit = NewAudit(audit)
		if change != nil {
			change(r)
		}
	}), audit
}

// newFirstKey is one that the client offers before its own, which is the second now.
func (r *rig) newFirstKey(t *testing.T) ssh.Signer {
	t.Helper()
	if err := os.Rename(r.file("id"), r.file("second")); err != nil {
		t.Fatal(err)
	}
	return newKey(t, r.file("id"))
}

func ended(t *testing.T, audit *journal, n int) {
	t.Helper()
	eventually(t, "the end in the audit", func() bool { return strings.Count(audit.String(), `"connection.closed"`) == n })
}

// TestAuditOfAConnection reads every field of what OpenSSH's client causes, who
// first offers a key that is not good for anything.
func TestAuditOfAConnection(t *testing.T) {
	r, audit := audited(t, nil)
	stranger := r.newFirstKey(t)
	write(t, r.file("authorized_keys"), line("", r.key)+" alice@laptop\n", 0o600)
	if out, stderr, _ := r.ssh(t, "-i", r.file("second"), "echo in"); out != "in\n" {
		t.Fatal(stderr)
	}
	ended(t, audit, 1)
	eventually(t, "the end of the session", func() bool { return strings.Contains(audit.String(), `"session.ended"`) })
	everywhere := record{"connection": 1.0, "remote": startsWith("127.0.0.1:")}
	want := []record{
		{"event": "connection.opened", "local": r.Addrs()[0].String()},
		{"event": "auth.refused", "user": "root", "method": "publickey", "key": "ssh-ed25519",
			"fingerprint": ssh.FingerprintSHA256(stranger.PublicKey()), "reason": contains("key is not authorized")},
		{"event": "auth.accepted", "user": "root", "method": "publickey", "key": "ssh-ed25519",
			"fingerprint": ssh.FingerprintSHA256(r.key.PublicKey()), "comment": "alice@laptop"},
		{"event": "session.started", "session": 1.0, "user": "root", "kind": "exec", "command": "echo in"},
		{"event": "session.ended", "session": 1.0, "exit": 0.0, "in": 0.0, "out": 3.0, "err": 0.0, "seconds": positive},
		{"event": "connection.closed", "in": positive, "out": positive, "seconds": positive, "user": "root",
			"reason": "disconnect: 11: disconnected by user"},
	}
	got := records(t, audit, "")
	slices.SortStableFunc(got, func(a, b record) int { return order(a) - order(b) })
	if len(got) != len(want) {
		t.Fatalf("%d events, want %d: %s", len(got), len(want), audit)
	}
	for i := range want {
		maps.Copy(want[i], everywhere)
		wantRecord(t, got[i], want[i])
	}
}

// order puts the end of the connection last: a job may outlive it.
func order(r record) int {
	if r["event"] == "connection.closed" {
		return 1
	}
	return 0
}

// TestAuditOfCertificates: who vouches for a key, for which name, is kept.
func TestAuditOfCertificates(t *testing.T) {
	r, audit := audited(t, func(r *rig) {
		r.newAuthority(t, "ca")
		r.config.settings.TrustedUserCAKeys = r.file("ca.pub")
	})
	write(t, r.file("authorized_keys"), "", 0o600)
	write(t, r.file("id.pub"), line("", r.key)+"\n", 0o600)
	r.certify(t, "ca", "-I", "alice's\tlaptop", "-n", "root", "-z", "7")
	if _, stderr, status := r.ssh(t, "true"); status != 0 {
		t.Fatal(stderr)
	}
	ended(t, audit, 1)
	accepted := records(t, audit, "auth.accepted")
	if len(accepted) != 1 {
		t.Fatal(audit)
	}
	wantRecord(t, accepted[0], record{"event": "auth.accepted", "connection": 1.0, "remote": startsWith("127.0.0.1:"), "user": "root",
		"method": "publickey", "key": "ssh-ed25519-cert-v01@openssh.com", "fingerprint": ssh.FingerprintSHA256(r.key.PublicKey()),
		"certificate": "alice's\tlaptop", "serial": 7.0, "ca": startsWith("SHA256:")})
}

// TestAuditOfTwoKeys: each of the keys that it takes is told, in order.
func TestAuditOfTwoKeys(t *testing.T) {
	r, audit := audited(t, func(r *rig) { r.config.settings.PublicKeys = 2 })
	second := newKey(t, r.file("second"))
	write(t, r.file("authorized_keys"), line("", r.key)+" first\n"+line("", second)+" second\n", 0o600)
	if _, stderr, status := r.ssh(t, "-i", r.file("second"), "true"); status != 0 {
		t.Fatal(stderr)
	}
	ended(t, audit, 1)
	got := records(t, audit, "auth.")
	if len(got) != 2 {
		t.Fatal(audit)
	}
	for i, want := range []record{
		{"event": "auth.partial", "fingerprint": ssh.FingerprintSHA256(r.key.PublicKey()), "comment": "first"},
		{"event": "auth.accepted", "fingerprint": ssh.FingerprintSHA256(second.PublicKey()), "comment": "second"},
	} {
		maps.Copy(want, record{"connection": 1.0, "remote": startsWith("127.0.0.1:"), "user": "root", "method": "publickey", "key": "ssh-ed25519"})
		wantRecord(t, got[i], want)
	}
}

// TestAuditOfRefusals: why somebody is not in, in the last word about the connection.
func TestAuditOfRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		change       func(*rig)
		args         []string
		event        string
		user, reason any
	}{
		"no key":           {nil, []string{"-o", "PreferredAuthentications=none"}, "connection.closed", nil, errNotOffered.Error()},
		"RefuseConnection": {func(r *rig) { r.config.settings.RefuseConnection = true }, nil, "connection.closed", nil, "RefuseConnection"},
		"too many keys":    {func(r *rig) { r.config.settings.MaxAuthTries = 1 }, []string{"-i", "second"}, "connection.closed", nil, "MaxAuthTries"},
		"not root":         {func(r *rig) { r.config.settings.PermitRootLogin = "no" }, nil, "auth.refused", "root", contains("ROOT LOGIN REFUSED")},
		"nobody":           {nil, []string{"-l", "no-such-user"}, "auth.refused", "no-such-user", contains("not in /etc/passwd")},
		"unfit jail": {func(r *rig) {
			r.config.settings.ChrootDirectory = r.file("jail")
			os.Mkdir(r.file("jail"), 0o777)
			os.Chmod(r.file("jail"), 0o777)
		}, nil, "auth.refused", "root", contains("bad ownership or modes")},
	} {
		t.Run(name, func(t *testing.T) {
			r, audit := audited(t, c.change)
			if i := slices.Index(c.args, "second"); i >= 0 {
				r.newFirstKey(t)
				c.args[i] = r.file("second")
			}
			if _, _, status := run(t, r.command(t, "ssh", append(c.args, "127.0.0.1", "true")...)); status != 255 {
				t.Errorf("status %d", status)
			}
			ended(t, audit, 1)
			if len(records(t, audit, "auth.accepted")) > 0 {
				t.Error("accepted")
			}
			found := records(t, audit, c.event)
			if len(found) == 0 {
				t.Fatalf("no %s: %s", c.event, audit)
			}
			last := found[len(found)-1]
			if check, ok := c.reason.(func(any) bool); last["user"] != c.user || ok && !check(last["reason"]) || !ok && last["reason"] != c.reason {
				t.Errorf("%v", last)
			}
		})
	}
}
