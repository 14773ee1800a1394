package e2e

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// excused are ssh-audit's complaints that stand: NIST's curves are for clients
// that may have nothing else, and come last; the other names are newer than the
// scanner, and the second of them is a mark and no algorithm.
var excused = regexp.MustCompile(strings.Join([]string{
	`^\((kex|key)\) (ecdh|ecdsa)-sha2-nistp\d+ .*\[fail\] using weak elliptic curves`,
	`^\(key\) ecdsa-sha2-nistp256 .*\[warn\] using weak random number generator could reveal the key`,
	`^\(kex\) mlkem768x25519-sha256 .*\[warn\] unknown algorithm`,
	`^\(kex\) kex-strict-s-v00@openssh\.com .*\[warn\] unknown algorithm`,
}, "|"))

// TestSSHAudit: the scanner finds nothing in the default configuration that is
// not excused, with all kinds of host keys, and the first key exchange on offer
// is the one that a quantum computer cannot undo.
func TestSSHAudit(t *testing.T) {
	needRoot(t, "ssh-audit", "ssh-keygen", "unshare")
	report := scan(t)
	for _, line := range report {
		bad := strings.Contains(line, "[fail]") || strings.Contains(line, "[warn]")
		if bad && !excused.MatchString(line) {
			t.Errorf("ssh-audit: %s", line)
		}
	}
	exchanges, keys := scanned(report, "kex"), scanned(report, "key")
	if len(exchanges) == 0 || exchanges[0] != "mlkem768x25519-sha256" {
		t.Errorf("key exchanges: %v", exchanges)
	}
	isCurve := func(name string) bool { return strings.Contains(name, "nistp") }
	first := slices.IndexFunc(exchanges, isCurve)
	for _, name := range exchanges[max(first, 0):] {
		if first >= 0 && !isCurve(name) && name != "kex-strict-s-v00@openssh.com" {
			t.Errorf("%s comes after NIST's curves: %v", name, exchanges)
		}
	}
	for _, name := range []string{"ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256"} {
		if !slices.Contains(keys, name) {
			t.Errorf("no host key for %s: %v", name, keys)
		}
	}
}

// scan starts a server in its default configuration and returns the scanner's
// lines about it.
func scan(t *testing.T) (report []string) {
	t.Helper()
	hostKeys := t.TempDir()
	makeHostKeys(t, hostKeys)
	j, err := startServing(program{buildenv(t)}, t.TempDir(), hostKeys)
	must(t, err)
	t.Cleanup(j.stop)
	_, port, _ := strings.Cut(j.address, ":")
	// The exit code says how bad the worst complaint is.
	const scanner = `ssh-audit --no-colors --batch --port "$0" 127.0.0.1 || test $? -le 3`
	return strings.Split(tool(t, "sh", "-c", scanner, port), "\n")
}

// scanned are the names of a kind that the scanner was offered, in order.
func scanned(report []string, kind string) (names []string) {
	for _, line := range report {
		if rest, ok := strings.CutPrefix(line, "("+kind+") "); ok {
			names = append(names, strings.Fields(rest)[0])
		}
	}
	return slices.Compact(names)
}
