package sshdconfig

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestParseCommandLine(t *testing.T) {
	tests := []struct {
		args string
		want CommandLine
	}{
		{"", CommandLine{}},
		{"-E /etc/cray/ims/sshd.log -f /etc/cray/ims/sshd_config", CommandLine{LogFile: "/etc/cray/ims/sshd.log", ConfigFile: "/etc/cray/ims/sshd_config"}},
		{"-f a -fb", CommandLine{ConfigFile: "b"}},
		{"-De4q", CommandLine{NoDetach: true, LogToStderr: true, AddressFamily: "inet", Quiet: true}},
		{"-dddd", CommandLine{Debug: 3, LogToStderr: true}},
		{"-6p2222 -p 2223 --", CommandLine{AddressFamily: "inet6", Ports: []int{2222, 2223}}},
		{"-h a -hb -c c", CommandLine{HostKeys: []string{"a", "b"}, HostCertificates: []string{"c"}}},
		{"-o Port=1 -oBanner=x", CommandLine{Options: []string{"Port=1", "Banner=x"}}},
		{"-itTGV -g1m", CommandLine{Inetd: true, Test: true, TestExtended: true, Dump: true, Version: true, LoginGraceTime: "1m"}},
		{"-u0 -b 1 -k1 -Qr", CommandLine{Ignored: []string{"-u", "-b", "-k", "-Q", "-r"}}},
		{"-T -C user=root,addr=192.0.2.1 -C host=h,laddr=::1,lport=22,invalid-user", CommandLine{TestExtended: true, TestConnection: &Connection{
			User: "root", Address: "192.0.2.1", Host: "h", LocalAddress: "::1", LocalPort: 22, InvalidUser: true}}},
	}
	for _, tt := range tests {
		got, err := ParseCommandLine(strings.Fields(tt.args))
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, %v", tt.args, got, err)
		}
	}
}

func TestParseCommandLineErrors(t *testing.T) {
	for args, want := range map[string]string{
		"-x":            "unknown option -- x",
		"-De!":          "unknown option -- !",
		"-f":            "option requires an argument -- f",
		"-D extra":      "Extra argument extra.",
		"extra -D":      "Extra argument extra.",
		"-- -D":         "Extra argument -D.",
		"-":             "Extra argument -.",
		"-p port":       "Bad port number.",
		"-g soon":       "Invalid login grace time.",
		"-R":            "not supported",
		"-C user=root":  "without test mode",
		"-T -C lport=x": "Invalid port",
		"-T -C shoe=43": "Invalid test mode specification shoe=43",
	} {
		_, err := ParseCommandLine(strings.Fields(args))
		var usage *UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}
