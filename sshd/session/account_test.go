package session

import (
	"strings"
	"testing"
)

const passwd = `# comment
root:x:0:0:root:/root:/bin/bash
short:x:1:1
text:x:a:b::/:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
root:x:0:0:second:/elsewhere:/bin/sh
huge:x:99999999999:0::/:/bin/sh
minus:x:-1:0::/:/bin/sh
`

func TestFindAccount(t *testing.T) {
	for name, want := range map[string]Account{
		"root":   {"root", 0, 0, "/root", "/bin/bash"},
		"nobody": {"nobody", 65534, 65534, "/nonexistent", "/usr/sbin/nologin"},
		"short":  {}, "text": {}, "absent": {}, "": {}, "huge": {}, "minus": {},
	} {
		got, ok := FindAccount(strings.NewReader(passwd), name)
		if got != want || ok != (want.Name != "") {
			t.Errorf("%q: %+v, %v", name, got, ok)
		}
	}
}

func FuzzFindAccount(f *testing.F) {
	f.Add(passwd, "root")
	f.Fuzz(func(t *testing.T, file, name string) {
		if a, ok := FindAccount(strings.NewReader(file), name); ok && (a.Name != name || a.UID < 0 || a.GID < 0) {
			t.Errorf("%q: %+v", name, a)
		}
	})
}
