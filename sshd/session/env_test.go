package session

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestAcceptable(t *testing.T) {
	usual := []string{"LANG", "LC_*"}
	everything := []string{"*"}
	for _, c := range []struct {
		patterns []string
		name     string
		want     bool
	}{
		{nil, "LANG", false},
		{usual, "LANG", true},
		{usual, "LC_ALL", true},
		{usual, "LANGUAGE", false},
		{everything, "EDITOR", true},
		{everything, "", false},
		{everything, "A=B", false},
		{everything, "A\x00B", false},
		{everything, "LD_PRELOAD", false},
		{[]string{"LD_PRELOAD"}, "LD_PRELOAD", false},
		{everything, "LD_LIBRARY_PATH", false},
		{everything, "GLIBC_TUNABLES", false},
		{everything, "BASH_ENV", false},
		{everything, "BASH_FUNC_ls%%", false},
		{everything, "ENV", false},
		{everything, "IFS", false},
	} {
		if got := acceptable(c.patterns, c.name); got != c.want {
			t.Errorf("acceptable(%q, %q) = %v, want %v", c.patterns, c.name, got, c.want)
		}
	}
}

func TestClientEnvironmentIsBounded(t *testing.T) {
	e := clientEnv{accept: []string{"*"}}
	for i := range maxClientVariables {
		if !e.set(fmt.Sprintf("V%d", i), "x") {
			t.Fatalf("variable %d refused", i)
		}
	}
	if e.set("ONE_MORE", "x") {
		t.Error("one variable too many accepted")
	}
	e = clientEnv{accept: []string{"*"}}
	if e.set("HUGE", strings.Repeat("x", maxClientEnvBytes)) {
		t.Error("a value beyond all bounds accepted")
	}
}

func TestEnvironmentOfASession(t *testing.T) {
	t.Setenv("S3_SECRET_KEY", "the server's own")
	l := newLogin(t)
	l.TimeZone = "UTC"
	l.Policy.AcceptEnv = []string{"LANG", "USER", "SSH_CLIENT", "IMS_JOB_ID"}
	l.Policy.Environment = []string{"FROM_KEY=1", "IMS_JOB_ID=key"}
	l.Policy.SetEnv = []string{"IMS_JOB_ID=a b=c", "IMS_ARCH=x86_64"}
	r := open(t, dial(t, l))
	for _, name := range []string{"LANG", "USER", "SSH_CLIENT", "IMS_JOB_ID"} {
		r.ask(t, true, "env", struct{ Name, Value string }{name, "client"})
	}
	r.ask(t, true, "exec", text{"exec cat /proc/self/environ"})
	out, _ := r.all(t)
	got := strings.Split(strings.TrimSuffix(out, "\x00"), "\x00")
	got = slices.DeleteFunc(got, func(s string) bool { // the shell's own
		return strings.HasPrefix(s, "_=") || strings.HasPrefix(s, "PWD=") || strings.HasPrefix(s, "SHLVL=")
	})
	slices.Sort(got)
	want := []string{
		"FROM_KEY=1", "HOME=" + l.Account.Home, "IMS_ARCH=x86_64", "IMS_JOB_ID=a b=c", "LANG=client", "LOGNAME=root",
		"MAIL=/var/mail/root", "PATH=" + rootPath, "SHELL=/bin/bash",
		"SSH_CLIENT=192.0.2.1 4321 22", "SSH_CONNECTION=192.0.2.1 4321 192.0.2.2 22", "TZ=UTC", "USER=root",
	}
	if !slices.Equal(got, want) {
		t.Errorf("environment\n%q\nwant\n%q", got, want)
	}
}

// FuzzParseEnvironment: whatever the file says, nothing harmful is set.
func FuzzParseEnvironment(f *testing.F) {
	f.Add("# a comment\nMINE=1\n  INDENTED=a=b\nLD_PRELOAD=/evil\nno entry\n\n=x\nQUOTED=\"a b\"\n", "*")
	f.Add("A=1\r\nB=\x00\nBASH_ENV=x", "A,B,!C*")
	f.Fuzz(func(t *testing.T, text, permitted string) {
		env, bad := parseEnvironment(strings.NewReader(text), permitted)
		if lines := strings.Count(text, "\n") + 1; len(env)+len(bad) > min(lines, maxEnvironmentLines) {
			t.Errorf("%d entries and %d complaints about %d lines", len(env), len(bad), lines)
		}
		for _, entry := range env {
			if name, _, ok := strings.Cut(entry, "="); !ok || harmful(name) || strings.ContainsAny(entry, "\x00\n") {
				t.Errorf("%q is set", entry)
			}
		}
	})
}
