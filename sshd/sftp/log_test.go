package sftp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A recorder keeps log lines or records. It is safe for concurrent use.
type recorder struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.Write(p)
}

func (r *recorder) lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.FieldsFunc(r.b.String(), func(c rune) bool { return c == '\n' || c == '\r' })
}

// quirks are where OpenSSH's wording is not kept: the session's address (the
// real server has none when it runs by itself) and numbers for debugging.
var quirks = regexp.MustCompile(`^(session |debug\d: |request |users-groups-by-id)`)

// meaningful are the lines that both servers should write.
func meaningful(lines []string, tree string) []string {
	lines = slices.DeleteFunc(lines, quirks.MatchString)
	for i := range lines {
		lines[i] = strings.ReplaceAll(lines[i], tree, "TREE")
	}
	return lines
}

// The log has OpenSSH's words at each level.
func TestLogIsOpenSSHs(t *testing.T) {
	for _, level := range []string{"ERROR", "INFO", "VERBOSE", "DEBUG1"} {
		t.Run(level, func(t *testing.T) {
			args := []string{"-e", "-l", level}
			theirTree, ourTree := conversationTree(t), conversationTree(t)
			theirs, ours := new(recorder), new(recorder)
			cmd := exec.Command(needTool(t, realServer), args...)
			cmd.Dir, cmd.Stderr = theirTree, theirs
			opts, err := ParseOptions(args)
			if err != nil {
				t.Fatal(err)
			}
			opts.Home, opts.Stderr = ourTree, ours
			logConversation(startCommand(t, cmd))
			logConversation(startServe(t, enter(t, ""), opts))
			got, want := meaningful(ours.lines(), ourTree), meaningful(theirs.lines(), theirTree)
			if !slices.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if level == "ERROR" && len(got) != 1 {
				t.Errorf("at the default level nothing that clients may do is logged, got %q", got)
			}
		})
	}
}

// logConversation makes each request that leaves a line.
func logConversation(c *client) {
	all := attrs{flags: attrSize | attrMode | attrTimes | attrOwner, size: 3, mode: 0o100640, mtime: 1e9}
	c.open("n", fxpOpen, "new", openRead|openWrite|openAppend|openCreate|openTruncate|openExclude, attrs{flags: attrMode, mode: 0o600})
	c.call(fxpWrite, ref("n"), uint64(0), "12345")
	c.call(fxpRead, ref("n"), uint64(1), 3)
	c.call(fxpRead, ref("n"), uint64(100), 3)
	c.call(fxpExtended, "fsync@openssh.com", ref("n"))
	c.call(fxpFsetstat, ref("n"), all)
	c.call(fxpClose, ref("n"))
	c.call(fxpOpen, "missing", openRead, attrs{})
	c.call(fxpSetstat, "new", all)
	c.call(fxpExtended, "lsetstat@openssh.com", "dangling", attrs{flags: attrTimes, mtime: 7})
	c.call(fxpStat, "new")
	c.call(fxpLstat, "dangling")
	c.call(fxpReadlink, "dangling")
	c.call(fxpRealpath, "")
	c.call(fxpExtended, "expand-path@openssh.com", "new")
	c.open("d", fxpOpendir, "dir")
	c.call(fxpReaddir, ref("d"))
	c.call(fxpClose, ref("d"))
	c.call(fxpMkdir, "made", attrs{flags: attrMode, mode: 0o700})
	c.call(fxpRmdir, "made")
	c.call(fxpRename, "new", "renamed")
	c.call(fxpExtended, "posix-rename@openssh.com", "renamed", "new")
	c.call(fxpExtended, "hardlink@openssh.com", "new", "hard")
	c.call(fxpExtended, "statvfs@openssh.com", ".")
	c.call(fxpSymlink, "target", "link")
	c.call(fxpRemove, "link")
	c.call(fxpRemove, "dir")
	c.call(fxpExtended, "unheard-of@example.com")
}

func TestRefusalsAreLogged(t *testing.T) {
	for _, args := range []string{"-R", "-P remove,open", "-p stat"} {
		theirs, ours := new(recorder), new(recorder)
		words := append([]string{"-e", "-l", "VERBOSE"}, strings.Fields(args)...)
		cmd := exec.Command(needTool(t, realServer), words...)
		cmd.Dir, cmd.Stderr = t.TempDir(), theirs
		opts, err := ParseOptions(words)
		if err != nil {
			t.Fatal(err)
		}
		opts.Home, opts.Stderr = t.TempDir(), ours
		for _, c := range []*client{startCommand(t, cmd), startServe(t, enter(t, ""), opts)} {
			c.call(fxpRemove, "x")
			c.call(fxpOpen, "x", openWrite|openCreate, attrs{})
			c.call(fxpMkdir, "x", attrs{})
		}
		if got, want := meaningful(ours.lines(), "TREE"), meaningful(theirs.lines(), "TREE"); !slices.Equal(got, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", args, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// Names cannot forge a line of the log.
func TestLogQuotesNames(t *testing.T) {
	log := new(recorder)
	c := startServe(t, enter(t, ""), Options{LogLevel: LogInfo, LogToStderr: true, Stderr: log, Home: t.TempDir()})
	c.call(fxpRemove, "x\"\nsession closed for local user root\x1b[2J\xff")
	if want := `remove name "x\"\nsession closed for local user root\x1b[2J\xff"`; !slices.Contains(log.lines(), want) {
		t.Errorf("got %q, want %q", log.lines(), want)
	}
}

// auditOf runs a client's requests and gives the records, without time and level.
func auditOf(t *testing.T, opts Options, work func(c *client)) []string {
	t.Helper()
	r := new(recorder)
	opts.Audit = slog.New(slog.NewJSONHandler(r, nil))
	t.Run("session", func(t *testing.T) { work(startServe(t, enter(t, ""), opts)) })
	var records []string
	for _, line := range r.lines() {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		delete(record, "time")
		delete(record, "level")
		b, err := json.Marshal(record)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, strings.ReplaceAll(string(b), opts.Home, "HOME"))
	}
	return records
}

// Each request that opens or changes something leaves one record, at every log level.
func TestAudit(t *testing.T) {
	home := t.TempDir()
	got := auditOf(t, Options{Home: home}, func(c *client) {
		c.open("f", fxpOpen, "f", openWrite|openCreate|openTruncate, attrs{flags: attrMode, mode: 0o640})
		c.call(fxpWrite, ref("f"), uint64(0), "12345")
		c.call(fxpFsetstat, ref("f"), attrs{flags: attrMode | attrTimes, mode: 0o4755, mtime: 1e9})
		c.call(fxpClose, ref("f"))
		c.call(fxpStat, "f")
		c.open("d", fxpOpendir, ".")
		c.call(fxpReaddir, ref("d"))
		c.call(fxpClose, ref("d"))
		c.call(fxpOpen, "missing", openRead, attrs{})
		c.call(fxpMkdir, "made", attrs{})
		c.call(fxpSymlink, "../target", "/no/such/link")
		c.call(fxpExtended, "hardlink@openssh.com", "f", "h\xff")
		c.call(fxpRename, "f", "g")
		c.call(fxpExtended, "posix-rename@openssh.com", "g", "f")
		c.call(fxpSetstat, "f", attrs{flags: attrOwner | attrSize, uid: 0, gid: 0, size: 2})
		c.call(fxpRemove, "h\xff")
		c.call(fxpRmdir, "made")
		c.open("r", fxpOpen, "f", openRead, attrs{})
		c.open("w", fxpOpen, "copy", openWrite|openCreate, attrs{})
		c.call(fxpRead, ref("r"), uint64(0), 1)
		c.call(fxpExtended, "copy-data", ref("r"), uint64(0), uint64(0), ref("w"), uint64(0))
		c.call(fxpClose, ref("w"))
	})
	want := []string{
		`{"flags":"WRITE,CREATE,TRUNCATE","mode":"0640","msg":"sftp.open","path":"HOME/f"}`,
		`{"mode":"4755","modified":"2001-09-09T01:46:40Z","msg":"sftp.setstat","path":"HOME/f"}`,
		`{"msg":"sftp.close","path":"HOME/f","read":0,"written":5}`,
		`{"error":"no such file or directory","flags":"READ","mode":"0666","msg":"sftp.open","path":"HOME/missing"}`,
		`{"mode":"0777","msg":"sftp.mkdir","path":"HOME/made"}`,
		`{"error":"no such file or directory","msg":"sftp.symlink","path":"/no/such/link","target":"../target"}`,
		`{"msg":"sftp.link","path":"HOME/f","to":"HOME/h\\xff"}`,
		`{"msg":"sftp.rename","path":"HOME/f","to":"HOME/g"}`,
		`{"msg":"sftp.rename","path":"HOME/g","to":"HOME/f"}`,
		`{"gid":0,"msg":"sftp.setstat","path":"HOME/f","size":2,"uid":0}`,
		`{"msg":"sftp.remove","path":"HOME/h\\xff"}`,
		`{"msg":"sftp.rmdir","path":"HOME/made"}`,
		`{"flags":"READ","mode":"0666","msg":"sftp.open","path":"HOME/f"}`,
		`{"flags":"WRITE,CREATE","mode":"0666","msg":"sftp.open","path":"HOME/copy"}`,
		`{"from":"HOME/f","msg":"sftp.copy","to":"HOME/copy","written":2}`,
		`{"msg":"sftp.close","path":"HOME/copy","read":0,"written":2}`,
		`{"forced":true,"msg":"sftp.close","path":"HOME/f","read":3,"written":0}`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestAuditOfRefusals(t *testing.T) {
	got := auditOf(t, Options{Home: t.TempDir(), Denied: []string{"remove"}, ReadOnly: true}, func(c *client) {
		c.call(fxpRemove, "f")
		c.call(fxpOpen, "f", openWrite, attrs{})
	})
	want := []string{
		`{"msg":"sftp.refused","request":"remove"}`,
		`{"error":"permission denied","flags":"WRITE","mode":"0666","msg":"sftp.open","path":"HOME/f"}`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A client that asks for the list of requests gets it, and nothing else.
func TestListRequests(t *testing.T) {
	want, err := exec.Command(needTool(t, realServer), "-Q", "requests").Output()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Serve(t.Context(), stdio{strings.NewReader(hello), &out}, enter(t, ""), Options{ListRequests: true}); err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestActivity(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := new(Activity)
	state := func() string { return fmt.Sprintf("%d pending, %d files", a.pending.Load(), a.files.Load()) }
	t.Run("session", func(t *testing.T) {
		c := startServe(t, enter(t, ""), Options{Home: dir, Activity: a})
		if a.Busy() != true {
			t.Error("not busy just after an answer")
		}
		c.open("f", fxpOpen, "f", openRead, attrs{})
		c.open("d", fxpOpendir, ".")
		if a.files.Load() != 1 {
			t.Errorf("with a file and a directory open: %s", state())
		}
		c.write([]byte("\x00\x00\x00\x09")) // a request that does not end
		for !(a.pending.Load() > 0) {
			if t.Context().Err() != nil {
				t.Fatal(state())
			}
		}
		if !a.Busy() {
			t.Error("not busy with half a request")
		}
		c.write([]byte("\x11\x00\x00\x00\x01\x00\x00\x00\x00"))
		c.read()
	})
	if a.files.Load() != 0 || a.pending.Load() != 0 {
		t.Errorf("after the session: %s", state())
	}
	a.last.Store(0)
	if a.Busy() {
		t.Error("busy long after the session")
	}
}
