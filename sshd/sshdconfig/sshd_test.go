package sshdconfig

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sshd is the real server, asked for its opinion of configurations.
type sshd struct{ hostKey, file string }

func findSshd(t *testing.T) sshd {
	t.Helper()
	if _, err := os.Stat("/usr/sbin/sshd"); err != nil {
		t.Skip("needs OpenSSH's sshd")
	}
	if os.Getuid() != 0 {
		t.Skip("needs root: sshd checks its privilege separation directory")
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := sshd{hostKey: filepath.Join(dir, "host"), file: filepath.Join(dir, "sshd_config")}
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", s.hostKey).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	return s
}

// command runs sshd on a configuration. The host key comes first, as a command
// line's does.
func (s sshd) command(t *testing.T, mode, text string, args ...string) *exec.Cmd {
	t.Helper()
	if err := os.WriteFile(s.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return exec.Command("/usr/sbin/sshd", append([]string{mode, "-f", s.file, "-h", s.hostKey}, args...)...)
}

// test is what sshd -t has to say.
func (s sshd) test(t *testing.T, text string) (string, error) {
	t.Helper()
	out, err := s.command(t, "-t", text).CombinedOutput()
	return string(out), err
}

// leftOut are lines that cannot be those of sshd unless a configuration has
// the directive itself.
var leftOut = map[string]string{
	"passwordauthentication":       "sshd's default is yes, and this server has no passwords",
	"kbdinteractiveauthentication": "likewise",
	"ciphers":                      "the library has fewer, and chacha20-poly1305 is slow beside AES in hardware",
	"macs":                         "the library has fewer, and those that do not encrypt first are left out",
	"kexalgorithms":                "the library has others",
	"hostkeyalgorithms":            "host keys in security keys are not to be had",
}

// TestDumpIsThatOfSshd compares the whole output of sshd -T, line by line and
// in order, with what this package writes for the same arguments and file.
func TestDumpIsThatOfSshd(t *testing.T) {
	real := findSshd(t)
	dir := filepath.Dir(real.file)
	for name, text := range map[string]string{
		"d/10-a.conf": "MaxSessions 1\nMatch User root\nPermitTTY no\n",
		"d/20-b.conf": "MaxSessions 2\nClientAliveCountMax 9\nInclude DIR/deep.conf\n",
		"deep.conf":   "AcceptEnv DEEP\nMatch Address 192.0.2.0/24\nBanner /etc/deep\n",
		"plain.conf":  "GatewayPorts yes\nAcceptEnv PLAIN\n",
	} {
		if err := os.MkdirAll(filepath.Join(dir, "d"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := readComparisons(t)
	if len(tests) < 40 {
		t.Fatalf("only %d configurations", len(tests))
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.ReplaceAll(tt.text, "DIR", dir)
			theirs, err := real.command(t, "-T", text, tt.args...).Output()
			if err != nil {
				t.Fatalf("sshd: %v\n%s", err, theirs)
			}
			ours := dumpOf(t, text, append([]string{"-T", "-f", real.file, "-h", real.hostKey}, tt.args...))
			given := strings.ToLower(text + strings.Join(tt.args, " "))
			compareLines(t, comparedLines(ours, given), comparedLines(string(theirs), given))
		})
	}
}

// comparison is one configuration with the arguments it is asked for.
type comparison struct {
	name, text string
	args       []string
}

// readComparisons reads testdata/dumps.txt: a line "== NAME" or "== NAME:
// ARGUMENTS", then the configuration.
func readComparisons(t *testing.T) []comparison {
	t.Helper()
	file, err := os.ReadFile("testdata/dumps.txt")
	if err != nil {
		t.Fatal(err)
	}
	var list []comparison
	for part := range strings.SplitSeq(string(file), "\n== ") {
		title, text, ok := strings.Cut(part, "\n")
		if !ok || strings.HasPrefix(part, "#") {
			continue
		}
		name, args, _ := strings.Cut(title, ": ")
		words, err := splitArguments(args)
		if err != nil {
			t.Fatalf("%s: %v", title, err)
		}
		list = append(list, comparison{name, text + "\n", words})
	}
	return list
}

// dumpOf is what this package writes for a command line, as the program asks.
func dumpOf(t *testing.T, text string, args []string) string {
	t.Helper()
	cl, err := ParseCommandLine(args)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Load(cl, []byte(text), Overlay{})
	if err != nil {
		t.Fatal(err)
	}
	var conn Connection
	if cl.TestConnection != nil {
		conn = *cl.TestConnection
		conn.Groups = groupsOf(t, conn.User)
	}
	output, err := c.Dump(conn)
	if err != nil {
		t.Fatal(err)
	}
	return output
}

func groupsOf(t *testing.T, name string) (groups []string) {
	t.Helper()
	who, err := user.Lookup(name)
	if err != nil {
		return nil
	}
	ids, err := who.GroupIds()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if group, err := user.LookupGroupId(id); err == nil {
			groups = append(groups, group.Name)
		}
	}
	return groups
}

// comparedLines are the lines of a dump without those left out.
func comparedLines(output, given string) []string {
	var lines []string
	for line := range strings.Lines(output) {
		line = strings.TrimRight(line, "\r\n")
		keyword, _, _ := strings.Cut(line, " ")
		if _, out := leftOut[keyword]; !out || strings.Contains(given, keyword) {
			lines = append(lines, line)
		}
	}
	return lines
}

func compareLines(t *testing.T, ours, theirs []string) {
	t.Helper()
	if len(theirs) < 70 {
		t.Fatalf("sshd wrote %q", theirs)
	}
	for i := range max(len(ours), len(theirs)) {
		our, their := "(end)", "(end)"
		if i < len(ours) {
			our = ours[i]
		}
		if i < len(theirs) {
			their = theirs[i]
		}
		if our != their {
			t.Fatalf("line %d: %q, sshd has %q", i+1, our, their)
		}
	}
}

// TestSshdRefusesTheSame checks that what sshd calls a mistake is one here, in
// the same file and line and in words that begin like sshd's.
func TestSshdRefusesTheSame(t *testing.T) {
	real := findSshd(t)
	bad := filepath.Join(filepath.Dir(real.file), "bad")
	for _, lines := range readLines(t, "testdata/refused.txt") {
		text := "\n" + strings.ReplaceAll(lines, "|", "\n") + "\n"
		if included, ok := strings.CutPrefix(lines, "included: "); ok {
			if err := os.WriteFile(bad, []byte("\n"+included+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			text = "Include " + bad + "\n"
		}
		output, err := real.test(t, text)
		if err == nil {
			t.Errorf("sshd accepts %q", lines)
			continue
		}
		_, err = Load(CommandLine{ConfigFile: real.file}, []byte(text), Overlay{})
		if err == nil {
			t.Errorf("%q: accepted, sshd says %s", lines, output)
		} else if !anyPrefix(err.Error(), output) {
			t.Errorf("%q: %v\nsshd: %s", lines, err, output)
		}
	}
}

// anyPrefix tells whether one of our lines begins like one of sshd's that
// names a file, or is the same.
func anyPrefix(ours, theirs string) bool {
	for their := range strings.Lines(theirs) {
		their = strings.TrimRight(their, "\r\n.")
		for our := range strings.Lines(ours) {
			if their != "" && (strings.Contains(their, "line ") || !strings.Contains(their, ":")) && strings.HasPrefix(our, strings.TrimSuffix(their, `"`)) {
				return true
			}
		}
	}
	return false
}

// readLines are the lines of a file that are no comments.
func readLines(t *testing.T, name string) []string {
	t.Helper()
	file, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for line := range strings.Lines(string(file)) {
		if line = strings.TrimSuffix(line, "\n"); line != "" && !strings.HasPrefix(line, "#") {
			list = append(list, line)
		}
	}
	if len(list) < 20 {
		t.Fatalf("%s: only %d lines", name, len(list))
	}
	return list
}

// TestSshdRefusesTheSameCommandLines compares the first line of what is said.
func TestSshdRefusesTheSameCommandLines(t *testing.T) {
	findSshd(t)
	for _, args := range []string{
		"-p x", "-p 70000", "-p", "-T -C foo", "-T -C user", "-T -C lport=x", "-C user=x", "-g 1y", "-z", "-f", "-t word", "-De4z",
	} {
		words := strings.Fields(args)
		output, err := exec.Command("/usr/sbin/sshd", words...).CombinedOutput()
		theirs, _, _ := strings.Cut(string(output), "\n")
		theirs = strings.TrimRight(theirs, "\r ")
		if _, ours := ParseCommandLine(words); err == nil || ours == nil || ours.Error() != theirs {
			t.Errorf("%s: %v, sshd says %s", args, ours, theirs)
		}
	}
}

// TestAcceptsWhatSshdAccepts takes lines that look like mistakes and are none.
func TestAcceptsWhatSshdAccepts(t *testing.T) {
	real := findSshd(t)
	for _, lines := range readLines(t, "testdata/accepted.txt") {
		text := strings.ReplaceAll(lines, "|", "\n") + "\n"
		if output, err := real.test(t, text); err != nil {
			t.Errorf("sshd refuses %q: %s", lines, output)
		}
		if _, err := Load(CommandLine{ConfigFile: real.file}, []byte(text), Overlay{}); err != nil {
			t.Errorf("%q: %v", lines, err)
		}
	}
}

// TestKeywordsAreThoseOfSshd asks sshd of each keyword in the table whether it
// knows it and whether it may stand within a Match block.
func TestKeywordsAreThoseOfSshd(t *testing.T) {
	real := findSshd(t)
	// These came to OpenSSH, or to Match blocks, after the release that this
	// test may meet, or depend on how it was built. DSAAuthentication is
	// PubkeyAuthentication, though for sshd not within a Match block.
	differ := strings.Fields("Subsystem RefuseConnection SshdSessionPath SshdAuthPath PAMServiceName PerSourcePenalties PerSourcePenaltyExemptList ChannelTimeout KerberosGetAFSToken DSAAuthentication")
	checked := 0
	for i := range keywords {
		k := &keywords[i]
		for name := range strings.FieldsSeq(k.names) {
			if k.kind == structure || slices.Contains(differ, name) {
				continue
			}
			output, _ := real.test(t, fmt.Sprintf("Match User nobody\n%s x\n", name))
			if strings.Contains(output, "Bad configuration option") {
				t.Errorf("sshd does not know %s", name)
			}
			globalForSshd := strings.Contains(output, "is not allowed within a Match block")
			if globalForSshd != (k.scope == global) {
				t.Errorf("%s: sshd wants it outside of Match blocks: %v", name, globalForSshd)
			}
			checked++
		}
	}
	if checked < 100 {
		t.Errorf("only %d names checked", checked)
	}
}
