package sshdconfig

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
)

// FuzzLoad reads any text. What is accepted must have settings and a dump for
// every connection, and what is not must be told with its place.
func FuzzLoad(f *testing.F) {
	f.Add(sidecarFile + jailLines)
	f.Add("Match User root,!guest Address 192.0.2.0/24\nForceCommand echo \"#\" # x\nMatch all\nPort=2222\n")
	f.Add("SetEnv A=\"b c\" 'D=e f' G=\\\"\nSubsystem sftp internal-sftp -f AUTH\nAcceptEnv LANG LC_*\n")
	f.Add("Ciphers +aes128-cbc\nMACs -*sha1*\nHostKeyAlgorithms ^ssh-*\nRekeyLimit 1G none\nMaxStartups 1:2:3\nLoginGraceTime 1h30m\n")
	f.Add("ListenAddress [::1]:22\nListenAddress ::\nPasswordAuthentication yes\nMatch LocalPort 22 invalid-user\nPermitTTY no")
	f.Add("PerSourcePenalties authfail:5 max:1h overflow:deny-all\nPerSourcePenalties no\nPerSourceNetBlockSize 24:64\n")
	for _, lines := range seedLines(f) {
		f.Add(lines)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(strings.ToLower(text), "include") {
			t.Skip("would read this machine's files")
		}
		c, err := Load(CommandLine{ConfigFile: "fuzz"}, []byte(text), Overlay{SetEnv: []string{"JOB=1"}, ChrootDirectory: "/jail"})
		if err != nil {
			checkPlaces(t, err)
			return
		}
		for _, conn := range []Connection{{}, root} {
			s, err := c.For(conn)
			if err != nil || s.ChrootDirectory != "/jail" || s.SetEnv[0] != "JOB=1" {
				t.Errorf("accepted, but not for %+v: %v, %+v", conn, err, s)
			}
			if s.DisableForwarding && (s.AllowTCPForwarding != "no" || s.AllowStreamLocalForwarding != "no" || s.AllowAgentForwarding) {
				t.Errorf("forwarding is disabled and allowed: %+v", s)
			}
			if named(c) {
				continue // a dump would ask for the address
			}
			if text, err := c.Dump(conn); err != nil || !strings.HasPrefix(text, "port ") {
				t.Errorf("dump for %+v: %v, %q", conn, err, text)
			}
		}
		if len(c.Server().Listen) == 0 {
			t.Error("no listen address")
		}
	})
}

// named tells whether a configuration listens on a host that has a name.
func named(c *Config) bool {
	return slices.ContainsFunc(c.Server().Listen, func(address string) bool {
		host, _, _ := net.SplitHostPort(address)
		_, err := netip.ParseAddr(host)
		return host != "" && err != nil
	})
}

// checkPlaces demands a file in each mistake, except for the two that are
// about two directives that need each other.
func checkPlaces(t *testing.T, err error) {
	t.Helper()
	var typed *Error
	if !errors.As(err, &typed) && !strings.Contains(err.Error(), " set without ") {
		t.Errorf("a mistake without its place: %v", err)
	}
	if typed != nil && (typed.File != "fuzz" || typed.Err == nil) {
		t.Errorf("place %+v", typed)
	}
}

// seedLines are the configurations of the comparisons with sshd.
func seedLines(f *testing.F) []string {
	f.Helper()
	var list []string
	for _, name := range []string{"testdata/refused.txt", "testdata/accepted.txt"} {
		file, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for line := range strings.Lines(string(file)) {
			list = append(list, strings.ReplaceAll(line, "|", "\n"))
		}
	}
	file, err := os.ReadFile("testdata/dumps.txt")
	if err != nil {
		f.Fatal(err)
	}
	for part := range strings.SplitSeq(string(file), "\n== ") {
		_, text, _ := strings.Cut(part, "\n")
		list = append(list, text)
	}
	return list
}

// FuzzParseCommandLine splits text into arguments at blanks, as the job's
// variable for options is split, and loads what they say.
func FuzzParseCommandLine(f *testing.F) {
	for _, args := range []string{
		"", "-E /etc/cray/ims/sshd.log -f /etc/cray/ims/sshd_config", "-De4q", "-dddd -6p2222 -p 2223 --", "-h a -hb -c c -g 1h",
		"-o Port=1 -oBanner=x", "-T -C user=root,addr=192.0.2.1 -C host=h,laddr=::1,lport=22,rdomain=r", "-itTGV -u0 -b 1 -k1 -Qr",
		"-x", "-f", "-R", "-p x", "-C user", "word", "-o Match=all", "-oSetEnv=A=1",
	} {
		f.Add(args)
	}
	f.Fuzz(func(t *testing.T, text string) {
		cl, err := ParseCommandLine(strings.Fields(text))
		if err != nil {
			var usage *UsageError
			if !errors.As(err, &usage) || usage.Text == "" {
				t.Errorf("%q: %v is no mistake in the command line", text, err)
			}
			return
		}
		if cl.TestConnection != nil && !cl.TestExtended && !cl.Dump {
			t.Errorf("%q: a connection to test and no test", text)
		}
		c, err := Load(cl, []byte{}, Overlay{})
		if err != nil {
			return
		}
		if len(cl.Ports) > 0 && len(c.Server().Listen) == 0 {
			t.Errorf("%q: no listen address", text)
		}
		if _, err := c.For(root); err != nil {
			t.Errorf("%q: accepted, but: %v", text, err)
		}
	})
}
