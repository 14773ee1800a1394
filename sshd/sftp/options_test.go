package sftp

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseOptions(t *testing.T) {
	mask := func(m int) *int { return &m }
	for _, test := range []struct {
		args string
		want Options
		err  string // a part of it
	}{
		{"", Options{}, ""},
		{"-R", Options{ReadOnly: true}, ""},
		{"-u 027", Options{Umask: mask(0o027)}, ""},
		{"-u0", Options{Umask: mask(0)}, ""},
		{"-eRu077 -d /srv/%u", Options{LogToStderr: true, ReadOnly: true, Umask: mask(0o77), StartDirectory: "/srv/%u"}, ""},
		{"-l INFO -f AUTH -e", Options{LogLevel: LogInfo, LogToStderr: true}, ""},
		{"-l debug3 -flocal7", Options{LogLevel: LogDebug}, ""},
		{"-Q requests", Options{ListRequests: true}, ""},
		{"-R -c 'anything at all' -x", Options{ReadOnly: true}, ""},
		{"-l LOUD", Options{complaints: []string{`internal-sftp: log level "LOUD": want QUIET, FATAL, ERROR, INFO, VERBOSE or DEBUG`}}, ""},
		{"-f MAIL -R", Options{ReadOnly: true, complaints: []string{
			`internal-sftp: log facility "MAIL": want one of DAEMON, USER, AUTH, AUTHPRIV, LOCAL0, LOCAL1, LOCAL2, LOCAL3, LOCAL4, LOCAL5, LOCAL6, LOCAL7`}}, ""},
		{"-lVERBOSE -P remove,posix-rename", Options{LogLevel: LogVerbose, Denied: []string{"remove", "posix-rename"}}, ""},
		{"-p open,read", Options{Allowed: []string{"open", "read"}}, ""},
		{"-u", Options{}, "option -u needs a value"},
		{"-u 8", Options{}, `umask "8"`},
		{"-u 1000", Options{}, `umask "1000"`},
		{"-u -1", Options{}, `umask "-1"`},
		{"-P remvoe", Options{}, `unknown request "remvoe"`},
		{"-x", Options{}, "option -x: not supported"},
		{"-Q ciphers", Options{}, `unknown query "ciphers"`},
		{"extra", Options{}, `unexpected argument "extra"`},
		{"-", Options{}, `unexpected argument "-"`},
	} {
		got, err := ParseOptions(strings.Fields(test.args))
		if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%q: error %v, want %q", test.args, err, test.err)
		}
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%q: got %+v, want %+v", test.args, got, test.want)
		}
	}
}

func TestReadOnlyRefusesEveryChange(t *testing.T) {
	dir := t.TempDir()
	sh(t, dir, "printf x >f; mkdir d; ln -s f l")
	before := snapshot(t, dir)
	c := startServe(t, enter(t, ""), Options{Home: dir, ReadOnly: true})
	c.open("f", fxpOpen, "f", openRead, attrs{})
	mode := attrs{flags: attrMode, mode: 0o777}
	for _, step := range []struct {
		kind   byte
		fields []any
	}{
		{fxpOpen, []any{"f", openWrite, attrs{}}},
		{fxpOpen, []any{"f", openRead | openWrite, attrs{}}},
		{fxpOpen, []any{"new", openRead | openCreate, attrs{}}},
		{fxpOpen, []any{"f", openRead | openTruncate, attrs{}}},
		{fxpWrite, []any{ref("f"), uint64(0), "y"}},
		{fxpSetstat, []any{"f", mode}},
		{fxpFsetstat, []any{ref("f"), mode}},
		{fxpRemove, []any{"f"}},
		{fxpMkdir, []any{"new", attrs{}}},
		{fxpRmdir, []any{"d"}},
		{fxpRename, []any{"f", "new"}},
		{fxpSymlink, []any{"f", "new"}},
		{fxpExtended, []any{"posix-rename@openssh.com", "f", "new"}},
		{fxpExtended, []any{"hardlink@openssh.com", "f", "new"}},
		{fxpExtended, []any{"lsetstat@openssh.com", "l", mode}},
		{fxpExtended, []any{"fsync@openssh.com", ref("f")}},
		{fxpExtended, []any{"copy-data", ref("f"), uint64(0), uint64(0), ref("f"), uint64(0)}},
	} {
		if r := c.call(step.kind, step.fields...); r.kind != fxpStatus || r.body.u32() != statusPermissionDenied {
			t.Errorf("type %d %q: %v", step.kind, step.fields, r)
		}
	}
	if after := snapshot(t, dir); !reflect.DeepEqual(after, before) {
		t.Errorf("the tree changed:\n%q\n%q", before, after)
	}
}
