package sshd

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"buildenv/sshd/sshdconfig"
)

// TestLoginsBesideSshd: who comes in, at OpenSSH's server and at ours.
func TestLoginsBesideSshd(t *testing.T) {
	second := func(t *testing.T, b *beside) { b.authorize(t, "second") }
	strangers := func(t *testing.T, b *beside) { newKey(t, b.file("stranger")); b.hide(t) }
	smallRSA := func(t *testing.T, b *beside) {
		b.hide(t)
		keygen(t, "-q", "-t", "rsa", "-b", "1024", "-N", "", "-f", b.file("rsa"))
		write(t, b.file("authorized_keys"), publicKey(t, b.file("rsa")), 0o600)
	}
	options := func(options string) func(*testing.T, *beside) {
		return func(t *testing.T, b *beside) { write(t, b.file("authorized_keys"), line(options, b.key)+"\n", 0o600) }
	}
	mode := func(name string, mode os.FileMode, uid, gid int) func(*testing.T, *beside) {
		return func(t *testing.T, b *beside) {
			if err := errors.Join(os.Chown(b.file(name), uid, gid), os.Chmod(b.file(name), mode)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		config  string
		prepare func(*testing.T, *beside)
		keys    string // more of the client's
		want    string
		said    string // in both logs, the same
	}{
		"two keys":          {"LogLevel VERBOSE\nAuthenticationMethods publickey,publickey", second, "second", "in\n", "Accepted publickey"},
		"one of two":        {"LogLevel VERBOSE\nAuthenticationMethods publickey,publickey", nil, "", "", "Partial publickey"},
		"one and a bad one": {"LogLevel VERBOSE\nAuthenticationMethods publickey,publickey", func(t *testing.T, b *beside) { newKey(t, b.file("other")) }, "other", "", "Partial publickey"},
		"either":            {"AuthenticationMethods publickey,publickey publickey", nil, "", "in\n", "Accepted publickey"},

		"tries enough":   {"MaxAuthTries 2", strangers, "stranger mine", "in\n", ""},
		"too many tries": {"MaxAuthTries 1", strangers, "stranger mine", "", "maximum authentication attempts exceeded"},

		"small RSA":     {"RequiredRSASize 1024", smallRSA, "rsa", "in\n", "Accepted publickey"},
		"too small RSA": {"RequiredRSASize 2048", smallRSA, "rsa", "", ""},

		"by name":              {"UseDNS yes", options(`from="localhost"`), "", "in\n", ""},
		"by name, not asked":   {"UseDNS no", options(`from="localhost"`), "", "", ""},
		"by address":           {"UseDNS yes", options(`from="127.0.0.1"`), "", "in\n", ""},
		"not by this name":     {"UseDNS yes", options(`from="*,!localhost"`), "", "", ""},
		"Match Host":           {"UseDNS yes\nMatch Host localhost\nForceCommand echo forced\nMatch all", nil, "", "forced\n", ""},
		"Match Host, no names": {"UseDNS no\nMatch Host localhost\nForceCommand echo forced\nMatch all", nil, "", "in\n", ""},

		"group may write":     {"", mode("authorized_keys", 0o620, 0, 1), "", "", "bad ownership or modes for file"},
		"others may write":    {"", mode("authorized_keys", 0o602, 0, 0), "", "", "bad ownership or modes for file"},
		"everybody may read":  {"", mode("authorized_keys", 0o644, 0, 0), "", "in\n", ""},
		"another's":           {"", mode("authorized_keys", 0o600, 1, 0), "", "", "bad ownership or modes for file"},
		"folder":              {"", mode(".", 0o775, 0, 1), "", "", "bad ownership or modes for directory"},
		"another's folder":    {"", mode(".", 0o755, 1, 0), "", "", "bad ownership or modes for directory"},
		"not strict":          {"StrictModes no", mode("authorized_keys", 0o666, 1, 0), "", "in\n", ""},
		"link to a good file": {"", relink, "", "in\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := startBoth(t, c.config)
			os.Chmod(b.dir, 0o755)
			if c.prepare != nil {
				c.prepare(t, b)
			}
			var args []string
			for key := range strings.FieldsSeq(c.keys) {
				args = append(args, "-i", b.file(key))
			}
			theirs, result := b.ask(t, append(args, "echo in")...)
			if theirs != result || result.out != c.want {
				t.Errorf("theirs %+v, ours %+v, want %q", theirs, result, c.want)
			}
			if c.said == "" {
				return
			}
			b.logs(t, "%s", c.said) // the client may know before the log does
			said, ours := b.said(t, c.said)
			if reason, ok := strings.CutPrefix(said, "Authentication refused: "); ok {
				if !strings.Contains(b.rig.log.String(), reason) {
					t.Errorf("log: %q, ours has no such reason", said)
				}
			} else if strings.TrimSuffix(said, " [preauth]") != strings.TrimSuffix(ours, " [preauth]") {
				t.Errorf("log:\n%q, ours\n%q", said, ours)
			}
		})
	}
}

// authorize makes one more key that is good.
func (b *beside) authorize(t *testing.T, name string) {
	t.Helper()
	write(t, b.file("authorized_keys"), line("", b.key)+"\n"+line("", newKey(t, b.file(name)))+"\n", 0o600)
}

// hide takes the key that is good from where the client looks first.
func (b *beside) hide(t *testing.T) {
	t.Helper()
	if err := os.Rename(b.file("id"), b.file("mine")); err != nil {
		t.Fatal(err)
	}
}

func relink(t *testing.T, b *beside) {
	t.Helper()
	if err := errors.Join(os.Rename(b.file("authorized_keys"), b.file("real")), os.Symlink("real", b.file("authorized_keys"))); err != nil {
		t.Fatal(err)
	}
}

// phoneBook answers for name servers.
type phoneBook struct {
	names     map[string][]string
	addresses map[string][]netip.Addr
	silent    bool
}

var _ resolver = phoneBook{}

func (p phoneBook) LookupAddr(ctx context.Context, address string) ([]string, error) {
	if p.silent {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return p.names[address], nil
}

func (p phoneBook) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if list := p.addresses[host]; list != nil {
		return list, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

// TestNamesOfClients: whoever owns an address may claim any name for it.
func TestNamesOfClients(t *testing.T) {
	here, there := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.1")
	for name, c := range map[string]struct {
		book phoneBook
		want string
		said string
	}{
		"confirmed":      {phoneBook{names: map[string][]string{"127.0.0.1": {"Build.Example."}}, addresses: map[string][]netip.Addr{"build.example": {there, here}}}, "build.example", ""},
		"nameless":       {phoneBook{}, "127.0.0.1", ""},
		"claimed":        {phoneBook{names: map[string][]string{"127.0.0.1": {"build.example"}}, addresses: map[string][]netip.Addr{"build.example": {there}}}, "127.0.0.1", "does not map back"},
		"unknown":        {phoneBook{names: map[string][]string{"127.0.0.1": {"build.example"}}}, "127.0.0.1", "reverse mapping checking getaddrinfo for build.example [127.0.0.1] failed"},
		"an address":     {phoneBook{names: map[string][]string{"127.0.0.1": {"192.0.2.1"}}, addresses: map[string][]netip.Addr{"192.0.2.1": {there, here}}}, "127.0.0.1", "Nasty PTR record"},
		"with an escape": {phoneBook{names: map[string][]string{"127.0.0.1": {"x\x1b[2J"}}}, "127.0.0.1", `x\\x1b[2j`},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, func(r *rig, _ *Config) { r.config.server.UseDNS = true })
			r.names = c.book
			for pattern, welcome := range map[string]bool{c.want: true, "elsewhere.example": false} {
				write(t, r.file("authorized_keys"), line(`from="`+pattern+`"`, r.key)+"\n", 0o600)
				client, err := r.dial("root", ssh.PublicKeys(r.key))
				if err == nil {
					client.Close()
				}
				if (err == nil) != welcome {
					t.Errorf("from=%s: %v", pattern, err)
				}
			}
			r.logs(t, "%s", c.said)
		})
	}
}

// TestHangingProgram: a program that is asked for keys, and all that it has
// started, ends when its time is over; then the key is refused.
func TestHangingProgram(t *testing.T) {
	dir := trusted(t)
	os.Chmod(dir, 0o755)
	for name, c := range map[string]struct {
		script   string
		patience time.Duration
	}{
		"hangs":              {"sleep 1000", 500 * time.Millisecond},
		"does not listen":    {"trap '' TERM INT HUP; sleep 1000", 500 * time.Millisecond},
		"leaves a child":     {"cat DIR/id.pub; sleep 1000 & exit 0", patience},
		"prints and hangs":   {"cat DIR/id.pub; sleep 1000", 500 * time.Millisecond},
		"prints for ever":    {"exec yes '# nothing'", patience},
		"hangs in the shell": {"while :; do :; done", 500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, func(r *rig, _ *Config) {
				r.config.settings.AuthorizedKeysFiles = nil
				r.config.settings.AuthorizedKeysCommand = filepath.Join(dir, "ask")
				r.config.settings.AuthorizedKeysCommandUser = "nobody"
				write(t, filepath.Join(dir, "id.pub"), line("", r.key)+"\n", 0o644)
				mark := "BUILDENV_TEST=" + r.dir // in the environment of all that it starts
				write(t, filepath.Join(dir, "ask"), "#!/bin/sh\nexport "+mark+"\n"+strings.ReplaceAll(c.script, "DIR", dir)+"\n", 0o755)
			})
			r.patience = c.patience
			if client, err := r.dial("root", ssh.PublicKeys(r.key)); err == nil {
				client.Close()
				t.Error("came in")
			}
			r.logs(t, "AuthorizedKeysCommand: %s: ", filepath.Join(dir, "ask"))
			eventually(t, "the end of all processes", func() bool { return len(marked(t, "BUILDENV_TEST="+r.dir)) == 0 })
		})
	}
}

// marked are the processes that have an entry in their environment.
func marked(t *testing.T, entry string) (found []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil && strings.Contains("\x00"+string(text), "\x00"+entry+"\x00") {
			found = append(found, f)
		}
	}
	return found
}

// TestRefuseConnection: sshd's directive for addresses and for names of users.
func TestRefuseConnection(t *testing.T) {
	const text = "HostKey DIR/host_key\nAuthorizedKeysFile DIR/authorized_keys\nStrictModes no\nPermitRootLogin yes\nListenAddress 127.0.0.1\n"
	for name, c := range map[string]struct {
		match   string
		user    string
		welcome bool
	}{
		"others":      {"Match Address 192.0.2.0/24\nRefuseConnection yes\n", "root", true},
		"us":          {"Match Address 127.0.0.0/8\nRefuseConnection yes\n", "root", false},
		"this user":   {"Match User root\nRefuseConnection yes\n", "root", false},
		"nobody":      {"Match invalid-user\nRefuseConnection yes\n", "root", true},
		"said nobody": {"Match invalid-user\nRefuseConnection yes\n", "no-such-user", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, func(r *rig, config *Config) {
				file := strings.ReplaceAll(text, "DIR", r.dir)
				settings, err := sshdconfig.Load(sshdconfig.CommandLine{Ports: []int{freePort(t)}}, []byte(file+c.match), sshdconfig.Overlay{})
				if err != nil {
					t.Fatal(err)
				}
				config.Settings = settings
			})
			_, stderr, status := run(t, r.command(t, "ssh", c.user+"@127.0.0.1", "true"))
			if (status == 0) != c.welcome || !c.welcome && strings.Contains(stderr, "Permission denied") {
				t.Errorf("status %d, %s", status, lastLine(stderr))
			}
			if !c.welcome {
				r.logs(t, "administratively prohibited connection ")
			}
		})
	}
}
