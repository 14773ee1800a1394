package artifacts_test

import (
	"encoding/json"
	"strings"
	"testing"

	"buildenv/artifacts"
)

func TestChangeReport(t *testing.T) {
	for _, test := range []struct {
		name    string
		changes []artifacts.Change
		want    string
	}{
		{"nothing", nil, `{"version": "1.0", "changes": [` + "\n" + `], "totals": {"added":0,"added_bytes":0,"removed":0,"removed_bytes":0,"changed":0,"changed_bytes":0}}` + "\n"},
		{"of each kind", []artifacts.Change{
			{Kind: artifacts.Added, Path: "etc/new", Type: "file", Size: 7, Lost: []string{"system.posix_acl_access"}},
			{Kind: artifacts.Removed, Path: "etc/old", Type: "file", Size: 5},
			{Kind: artifacts.Changed, Path: "etc/motd", Type: "file", Size: 3, What: []string{"content", "mode"}},
			{Kind: artifacts.Changed, Path: "etc/passwd", Type: "file", Size: 300, Was: 300, What: []string{"owner"}},
			{Kind: artifacts.Hidden, Path: "proc", Type: "directory"},
		}, `{"version": "1.0", "changes": [
{"change":"added","path":"etc/new","type":"file","size":7,"lost":["system.posix_acl_access"]},
{"change":"removed","path":"etc/old","type":"file","size":5},
{"change":"changed","path":"etc/motd","type":"file","size":3,"was":0,"what":["content","mode"]},
{"change":"changed","path":"etc/passwd","type":"file","size":300,"was":300,"what":["owner"]},
{"change":"hidden","path":"proc","type":"directory","size":0}
], "totals": {"added":1,"added_bytes":7,"removed":1,"removed_bytes":5,"changed":2,"changed_bytes":3,"hidden":1,"lost":1}}
`},
		{"a name that is not UTF-8", []artifacts.Change{{Kind: artifacts.Removed, Path: "b\xffd\xfe\n", Type: "fifo"}},
			`{"version": "1.0", "changes": [
{"change":"removed","path":"b` + "\ufffdd\ufffd" + `\n","path_bytes":"Yv9k/go=","type":"fifo","size":0}
], "totals": {"added":0,"added_bytes":0,"removed":1,"removed_bytes":0,"changed":0,"changed_bytes":0}}
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			report := artifacts.NewChangeReport(&out)
			for _, c := range test.changes {
				if err := report.Add(c); err != nil {
					t.Fatal(err)
				}
			}
			if err := report.Close(); err != nil {
				t.Fatal(err)
			}
			if out.String() != test.want {
				t.Errorf("got\n%s\nwant\n%s", out.String(), test.want)
			}
			if !json.Valid([]byte(out.String())) {
				t.Error("no JSON")
			}
		})
	}
}
