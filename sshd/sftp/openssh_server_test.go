package sftp

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// request steps that both servers are asked, in this order.
var conversation = []struct {
	save   string // name for the handle that the reply carries
	kind   byte
	fields []any
}{
	// Paths.
	{kind: fxpRealpath, fields: []any{"."}},
	{kind: fxpRealpath, fields: []any{""}},
	{kind: fxpRealpath, fields: []any{"file"}},
	{kind: fxpRealpath, fields: []any{"missing"}},
	{kind: fxpRealpath, fields: []any{"missing/"}},
	{kind: fxpRealpath, fields: []any{"missing/below"}},
	{kind: fxpRealpath, fields: []any{"file/below"}},
	{kind: fxpRealpath, fields: []any{"tolink/../file"}},
	{kind: fxpRealpath, fields: []any{"dangling"}},
	{kind: fxpRealpath, fields: []any{"loop"}},
	{kind: fxpRealpath, fields: []any{"/../../.."}},
	{kind: fxpRealpath, fields: []any{strings.Repeat("x", 5000)}},
	{kind: fxpExtended, fields: []any{"expand-path@openssh.com", "~"}},
	{kind: fxpExtended, fields: []any{"expand-path@openssh.com", "~/dir"}},
	{kind: fxpExtended, fields: []any{"expand-path@openssh.com", "dir/../file"}},
	{kind: fxpExtended, fields: []any{"home-directory", "nobody-by-this-name"}},
	// Attributes.
	{kind: fxpStat, fields: []any{""}},
	{kind: fxpStat, fields: []any{"file"}},
	{kind: fxpStat, fields: []any{"file/below"}},
	{kind: fxpStat, fields: []any{"dangling"}},
	{kind: fxpStat, fields: []any{"loop"}},
	{kind: fxpLstat, fields: []any{"dangling"}},
	{kind: fxpLstat, fields: []any{strings.Repeat("x", 300)}},
	{kind: fxpReadlink, fields: []any{"dangling"}},
	{kind: fxpReadlink, fields: []any{"file"}},
	{kind: fxpSetstat, fields: []any{"file", attrs{flags: attrMode, mode: 0o104711}}},
	{kind: fxpStat, fields: []any{"file"}},
	{kind: fxpSetstat, fields: []any{"missing", attrs{flags: attrMode, mode: 0o644}}},
	{kind: fxpSetstat, fields: []any{"dir", attrs{flags: attrSize, size: 3}}},
	{kind: fxpSetstat, fields: []any{"file", attrs{flags: attrSize | attrTimes, size: 3, mtime: 7}}},
	{kind: fxpSetstat, fields: []any{"file", attrs{}}},
	{kind: fxpExtended, fields: []any{"lsetstat@openssh.com", "dangling", attrs{flags: attrTimes}}},
	{kind: fxpExtended, fields: []any{"lsetstat@openssh.com", "dangling", attrs{flags: attrMode, mode: 0o600}}},
	{kind: fxpExtended, fields: []any{"lsetstat@openssh.com", "file", attrs{flags: attrSize, size: 1}}},
	// Open files.
	{kind: fxpOpen, fields: []any{"missing", openRead, attrs{}}},
	{kind: fxpOpen, fields: []any{"file", openWrite | openCreate | openExclude, attrs{}}},
	{kind: fxpOpen, fields: []any{"dir", openWrite, attrs{}}},
	{save: "d", kind: fxpOpen, fields: []any{"dir", openRead, attrs{}}},
	{kind: fxpRead, fields: []any{ref("d"), uint64(0), 10}},
	{save: "n", kind: fxpOpen, fields: []any{"new", openRead | openWrite | openCreate, attrs{}}},
	{kind: fxpWrite, fields: []any{ref("n"), uint64(2), "hello"}},
	{kind: fxpRead, fields: []any{ref("n"), uint64(0), 100}},
	{kind: fxpRead, fields: []any{ref("n"), uint64(3), 2}},
	{kind: fxpRead, fields: []any{ref("n"), uint64(3), 0}},
	{kind: fxpRead, fields: []any{ref("n"), uint64(7), 100}},
	{kind: fxpRead, fields: []any{ref("n"), uint64(1 << 63), 100}},
	{kind: fxpWrite, fields: []any{ref("n"), uint64(1 << 63), "x"}},
	{kind: fxpFstat, fields: []any{ref("n")}},
	{kind: fxpFsetstat, fields: []any{ref("n"), attrs{flags: attrSize | attrMode | attrTimes, size: 4, mode: 0o4755}}},
	{kind: fxpFstat, fields: []any{ref("n")}},
	{kind: fxpExtended, fields: []any{"fsync@openssh.com", ref("n")}},
	{kind: fxpExtended, fields: []any{"fstatvfs@openssh.com", ref("n")}},
	{kind: fxpExtended, fields: []any{"statvfs@openssh.com", "."}},
	{kind: fxpExtended, fields: []any{"limits@openssh.com"}},
	{save: "a", kind: fxpOpen, fields: []any{"new", openWrite | openAppend, attrs{}}},
	{kind: fxpWrite, fields: []any{ref("a"), uint64(0), "+end"}},
	{kind: fxpRead, fields: []any{ref("a"), uint64(0), 100}},
	{kind: fxpRead, fields: []any{ref("n"), uint64(0), 100}},
	{save: "c", kind: fxpOpen, fields: []any{"copy", openRead | openWrite | openCreate, attrs{flags: attrMode, mode: 0o600}}},
	{kind: fxpExtended, fields: []any{"copy-data", ref("n"), uint64(0), uint64(0), ref("c"), uint64(1)}},
	{kind: fxpExtended, fields: []any{"copy-data", ref("n"), uint64(0), uint64(2), ref("c"), uint64(0)}},
	{kind: fxpExtended, fields: []any{"copy-data", ref("n"), uint64(0), uint64(2), ref("n"), uint64(0)}},
	{kind: fxpRead, fields: []any{ref("c"), uint64(0), 100}},
	{kind: fxpClose, fields: []any{ref("c")}},
	{kind: fxpClose, fields: []any{ref("c")}},
	{kind: fxpRead, fields: []any{ref("c"), uint64(0), 100}},
	{kind: fxpReaddir, fields: []any{ref("n")}},
	{kind: fxpClose, fields: []any{ref("n")}},
	{kind: fxpClose, fields: []any{"no handle at all"}},
	{kind: fxpStat, fields: []any{"copy"}},
	// Names.
	{kind: fxpMkdir, fields: []any{"made", attrs{}}},
	{kind: fxpMkdir, fields: []any{"made", attrs{}}},
	{kind: fxpMkdir, fields: []any{"private", attrs{flags: attrMode, mode: 0o41700}}},
	{kind: fxpMkdir, fields: []any{"missing/made", attrs{}}},
	{kind: fxpRename, fields: []any{"file", "new"}},
	{kind: fxpRename, fields: []any{"file", "renamed"}},
	{kind: fxpRename, fields: []any{"missing", "x"}},
	{kind: fxpRename, fields: []any{"made", "private"}},
	{kind: fxpRename, fields: []any{"made", "made2"}},
	{kind: fxpRename, fields: []any{"made2", "made2/inside"}},
	{kind: fxpRename, fields: []any{"dangling", "copy"}},
	{kind: fxpExtended, fields: []any{"posix-rename@openssh.com", "renamed", "new"}},
	{kind: fxpExtended, fields: []any{"posix-rename@openssh.com", "new", "made2"}},
	{kind: fxpExtended, fields: []any{"hardlink@openssh.com", "new", "hard"}},
	{kind: fxpExtended, fields: []any{"hardlink@openssh.com", "new", "hard"}},
	{kind: fxpSymlink, fields: []any{"../not/there", "sym"}},
	{kind: fxpSymlink, fields: []any{"again", "sym"}},
	{kind: fxpReadlink, fields: []any{"sym"}},
	{kind: fxpRemove, fields: []any{"made2"}},
	{kind: fxpRemove, fields: []any{"missing"}},
	{kind: fxpRmdir, fields: []any{"new"}},
	{kind: fxpRmdir, fields: []any{"dir"}},
	{kind: fxpRmdir, fields: []any{"made2"}},
	{kind: fxpRemove, fields: []any{"hard"}},
	// Directories.
	{kind: fxpOpendir, fields: []any{"new"}},
	{kind: fxpOpendir, fields: []any{"missing"}},
	{save: "l", kind: fxpOpendir, fields: []any{"dir"}},
	{kind: fxpReaddir, fields: []any{ref("l")}},
	{kind: fxpReaddir, fields: []any{ref("l")}},
	{kind: fxpFstat, fields: []any{ref("l")}},
	{kind: fxpClose, fields: []any{ref("l")}},
	{kind: fxpReaddir, fields: []any{ref("l")}},
	// What neither knows. (OpenSSH never answers an unknown packet type.)
	{kind: fxpExtended, fields: []any{"unheard-of@example.com", "x"}},
}

// conversationTree is what the conversation is about.
func conversationTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	sh(t, dir, `
		printf 'some text' >file; ln -s dir tolink; ln -s nowhere dangling; ln -s loop loop
		mkdir dir dir/sub; printf x >dir/plain; printf y >dir/setuid; chmod 4755 dir/setuid
		printf z >dir/setgid; chmod 2644 dir/setgid; chmod 1777 dir/sub; ln -s plain dir/link
		mkfifo dir/fifo; touch -d '2001-02-03 04:05' dir/old dir; touch -d '2001-02-03 04:05' dir/sub`)
	return dir
}

func sh(t *testing.T, dir, script string) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-ec", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// The two servers must answer alike, word for word, and leave the same tree.
func TestAnswersAreOpenSSHs(t *testing.T) {
	theirTree, ourTree := conversationTree(t), conversationTree(t)
	theirs := startOpenSSH(t, theirTree)
	ours := startServe(t, enter(t, ""), Options{Home: ourTree})
	for _, step := range conversation {
		want := strings.ReplaceAll(theirs.open(step.save, step.kind, step.fields...).String(), theirTree, "TREE")
		got := strings.ReplaceAll(ours.open(step.save, step.kind, step.fields...).String(), ourTree, "TREE")
		if got != want {
			t.Errorf("packet type %d %.60q:\n got %s\nwant %s", step.kind, step.fields, got, want)
		}
	}
	if got, want := snapshot(t, ourTree), snapshot(t, theirTree); !slices.Equal(got, want) {
		t.Errorf("trees differ:\n got %q\nwant %q", got, want)
	}
}

func TestExtensionsAreOpenSSHs(t *testing.T) {
	for _, args := range [][]string{nil, {"-R"}, {"-P", "limits,hardlink"}, {"-p", "open,copy-data"}} {
		opts, err := ParseOptions(args)
		if err != nil {
			t.Fatal(err)
		}
		list := func(c *client) (all []string) {
			for d := c.version.body; len(d.rest) > 0; {
				all = append(all, d.string()+" "+d.string())
			}
			slices.Sort(all)
			return all
		}
		want := list(startOpenSSH(t, t.TempDir(), args...))
		if got := list(startServe(t, enter(t, ""), opts)); !slices.Equal(got, want) {
			t.Errorf("options %q:\n got %q\nwant %q", args, got, want)
		}
	}
}

func TestRequestNamesAreOpenSSHs(t *testing.T) {
	out, err := exec.Command(needTool(t, realServer), "-Q", "requests").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := RequestNames(), strings.Fields(string(out)); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// snapshot describes a tree, a line for each file: all that a transfer may
// keep or lose, except times and the sizes of directories.
func snapshot(t *testing.T, dir string) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		e := entry{name: "." + strings.TrimPrefix(path, dir)}
		if err := unix.Lstat(path, &e.stat); err != nil {
			return err
		}
		line := e.name + " " + statAttrs(&e.stat).String()
		switch e.stat.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += " " + strings.ReplaceAll(string(content), dir, "TREE")
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " -> " + target
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}
