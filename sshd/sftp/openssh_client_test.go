package sftp

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// batch is what OpenSSH's client did with a server.
type batch struct {
	exit          int
	output        string
	remote, local []string // the trees afterwards
}

// runBatch runs OpenSSH's client with a batch of commands against a server
// program. Relative remote paths begin where the batch's "cd" says.
func runBatch(t *testing.T, server, local string, env []string, commands string) (exit int, output string) {
	t.Helper()
	cmd := exec.Command(needTool(t, "sftp"), "-q", "-b", "-", "-D", server)
	cmd.Dir = local
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader(commands)
	out, err := cmd.CombinedOutput()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// asServer is the environment in which the test binary serves.
func asServer(root, home, args string) []string {
	return []string{serverRoot + "=" + root, serverHome + "=" + home, serverArgs + "=" + args,
		"GORACE=atexit_sleep_ms=0"} // the race detector's second at exit, a hundred times
}

// The trees that every batch begins with.
const (
	remoteTree = `
		printf 'remote text' >file; printf other >other; chmod 640 other
		mkdir -p dir/sub/deep empty; printf 1 >dir/one; printf 22 >dir/sub/two; printf 333 >dir/sub/deep/three
		ln -s sub/two dir/rel; ln -s missing dangling; cp file program; chmod 4755 program`
	localTree = `
		printf 'local text' >new; printf 'remote text, and more of it' >longer; printf remote >half
		mkdir -p tree/a/b; printf x >tree/x; printf y >tree/a/y; chmod 700 tree/a; printf '#!' >tree/a/b/run; chmod 755 tree/a/b/run
		touch -d '2001-02-03 04:05:06' tree/x; ln -s x tree/link; head -c 600000 /dev/zero | tr '\0' z >big`
)

// batches are run against both servers; "-" lets a batch go on after a command
// that may fail.
var batches = []struct{ name, commands string }{
	{"get", "get file got"},
	{"get a missing file", "get missing"},
	{"get recursively", "get -r dir"},
	{"get recursively and preserve", "get -pr dir"},
	{"get a directory plainly", "get dir"},
	{"resume get", "reget file half"},
	{"put", "put new"},
	{"put over a file", "put new other"},
	{"put into a directory", "put new dir"},
	{"put into a missing directory", "put new missing/new"},
	{"put much", "put big"},
	{"put and sync", "put -f new synced"},
	{"put recursively", "mkdir tree\nput -r tree"},
	{"put recursively and preserve", "put -pr tree"},
	{"put and preserve", "put -p tree/x"},
	{"resume put", "reput longer file"},
	{"resume put of a shorter file", "reput half file"},
	{"rename", "rename file moved"},
	{"rename onto a file", "rename file other"},
	{"legacy rename", "rename -l file moved"},
	{"legacy rename onto a file", "rename -l file other"},
	{"rename a directory", "rename dir moved"},
	{"rename a directory onto an empty one", "rename dir empty"},
	{"legacy rename of a directory onto an empty one", "rename -l dir empty"},
	{"rename a missing file", "rename missing other"},
	{"remove", "rm file"},
	{"remove a directory", "rm empty"},
	{"remove a link", "rm dangling"},
	{"remove by pattern", "rm dir/*"},
	{"rmdir", "rmdir empty"},
	{"rmdir of a full directory", "rmdir dir"},
	{"rmdir of a file", "rmdir file"},
	{"mkdir", "mkdir made"},
	{"mkdir twice", "mkdir made\nmkdir made"},
	{"symlink", "ln -s ../some/where link"},
	{"absolute symlink", "ln -s /some/where link"},
	{"symlink over a file", "ln -s where file"},
	{"hard link", "ln file hard"},
	{"chmod", "chmod 600 file"},
	{"chmod with setuid", "chmod 6755 file"},
	{"chmod of a missing file", "chmod 600 missing"},
	{"chmod of a link", "chmod -h 600 dangling"},
	{"chown", "chown 12 file\nchgrp 34 file"},
	{"chown clears setuid", "chown 12 program"},
	{"chown of a link", "chown -h 12 dangling"},
	{"copy", "cp file copied"},
	{"copy over a file", "cp file other"},
	{"copy a directory", "cp dir copied"},
	{"list", "ls -l"},
	{"list all", "ls -la dir"},
	{"list numbers", "ls -ln dir/sub"},
	{"list a pattern", "ls -1 dir/*"},
	{"list a missing file", "ls missing"},
	{"change directory", "cd dir/sub\npwd\ncd ..\nls -1"},
	{"change to a file", "cd file"},
	{"disk space", "df -h ."},
}

// volatile are the parts of a listing that differ between two trees made one
// after the other: sizes of directories, free space, and temporary names.
var volatile = regexp.MustCompile(`(?m)^(d.* ) *\d+( \w{3} +\d+ .*)$|\d[\d.]*[BKMGT]+|\d+%`)

func runBatchOn(t *testing.T, server string, env []string, commands string) batch {
	t.Helper()
	remote, local := t.TempDir(), t.TempDir()
	sh(t, remote, remoteTree)
	sh(t, local, localTree)
	var b batch
	b.exit, b.output = runBatch(t, server, local, env, "cd "+remote+"\n"+commands+"\n")
	b.output = strings.NewReplacer(remote, "REMOTE", local, "LOCAL").Replace(b.output)
	b.output = volatile.ReplaceAllString(b.output, "$1*$2")
	b.remote, b.local = snapshot(t, remote), snapshot(t, local)
	return b
}

// The client must see no difference between this server and OpenSSH's: the
// same exit code, the same words, the same files on both sides.
func TestClientSeesOpenSSH(t *testing.T) {
	needRoot(t)
	theirs := needTool(t, realServer)
	for _, test := range batches {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			want := runBatchOn(t, theirs, nil, test.commands)
			got := runBatchOn(t, os.Args[0], asServer("/", "/", ""), test.commands)
			if got.exit != want.exit || got.output != want.output {
				t.Errorf("exit %d, output %s\nwant exit %d, output %s", got.exit, got.output, want.exit, want.output)
			}
			if !slices.Equal(got.remote, want.remote) {
				t.Errorf("remote tree:\n got %.2000q\nwant %.2000q", got.remote, want.remote)
			}
			if !slices.Equal(got.local, want.local) {
				t.Errorf("local tree:\n got %.2000q\nwant %.2000q", got.local, want.local)
			}
		})
	}
}

// In a jail absolute paths and absolute links begin at the image root, and
// nothing that the client can say leads out of it.
func TestClientInJail(t *testing.T) {
	needRoot(t)
	const image = `
		mkdir -p etc usr/bin root; printf 'image\n' >etc/os-release; ln -s /etc/os-release usr/release
		printf 'root:x:0:0::/root:/bin/sh\nbuilder:x:77:78::/home/b:/bin/sh\n' >etc/passwd
		printf 'root:x:0:\nbuilders:x:78:\n' >etc/group; chown 77:78 etc/os-release; ln -s ../../../../../.. up`
	tests := []struct {
		name, args, commands string
		exit                 int
		output               string // a part of it
		file, content        string // in the image root or below "local"
	}{
		{"absolute link", "", "get /usr/release got", 0, "", "local/got", "image\n"},
		{"link through the root", "", "get /up/etc/os-release got", 0, "", "local/got", "image\n"},
		{"too many dots", "", "get ../../../../etc/os-release got", 0, "", "local/got", "image\n"},
		{"new absolute link", "", "ln -s /etc/os-release /root/abs\nget /root/abs got", 0, "", "local/got", "image\n"},
		{"write through a link", "", "put new /usr/release", 0, "", "etc/os-release", "local text"},
		{"start directory", "", "put new", 0, "", "root/new", "local text"},
		{"option -d", "-d /usr/bin", "put new", 0, "", "usr/bin/new", "local text"},
		{"option -d with tokens", "-d %d/../usr", "pwd", 0, "Remote working directory: /usr\n", "", ""},
		{"option -d of a missing directory", "-d /nowhere", "pwd", 0, "Remote working directory: /root\n", "", ""},
		{"option -u", "-u 077", "mkdir made\nls -l", 0, "drwx------", "", ""},
		{"names of the image", "", "ls -l /etc/os-release", 0, "builder  builders", "", ""},
		{"read only", "-R", "put new", 1, "Permission denied", "", ""},
		{"read only get", "-R", "get /etc/os-release got", 0, "", "local/got", "image\n"},
		{"denied request", "-P remove,mkdir", "rm /etc/os-release", 1, "Permission denied", "etc/os-release", "image\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			root, local := t.TempDir(), t.TempDir()
			sh(t, root, image)
			sh(t, local, localTree)
			exit, output := runBatch(t, os.Args[0], local, asServer(root, "/root", test.args), test.commands+"\n")
			if exit != test.exit || !strings.Contains(output, test.output) {
				t.Errorf("exit %d, want %d with %q; output:\n%s", exit, test.exit, test.output, output)
			}
			if test.file == "" {
				return
			}
			path := filepath.Join(root, test.file)
			if below, ok := strings.CutPrefix(test.file, "local/"); ok {
				path = filepath.Join(local, below)
			}
			if content, err := os.ReadFile(path); err != nil || string(content) != test.content {
				t.Errorf("%s: %q, %v; want %q", test.file, content, err, test.content)
			}
		})
	}
}

// scp has the server expand "~" and "~user", the latter by the image's passwd.
func TestScpInJail(t *testing.T) {
	needRoot(t)
	root, local := t.TempDir(), t.TempDir()
	sh(t, root, `mkdir -p etc home/me home/b; printf 'builder:x:77:78::/home/b:/bin/sh\n' >etc/passwd`)
	sh(t, local, localTree)
	for _, test := range []struct {
		target, file string
		ok           bool
	}{
		{"host:", "home/me/new", true},
		{"host:~/mine", "home/me/mine", true},
		{"host:~builder/theirs", "home/b/theirs", true},
		{"host:~nobody/x", "home/nobody/x", false},
		{"host:/etc/new", "etc/new", true},
	} {
		cmd := exec.Command(needTool(t, "scp"), "-q", "-D", os.Args[0], "new", test.target)
		cmd.Dir = local
		cmd.Env = append(os.Environ(), asServer(root, "/home/me", "")...)
		out, err := cmd.CombinedOutput()
		if (err == nil) != test.ok {
			t.Errorf("scp to %s: %v\n%s", test.target, err, out)
		}
		if _, err := os.Stat(filepath.Join(root, test.file)); (err == nil) != test.ok {
			t.Errorf("scp to %s: %v", test.target, err)
		}
	}
}
