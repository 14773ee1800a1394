package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"buildenv/internal/treediff"
)

// workDropbear: dbclient runs commands, with a terminal and in a pipe.
func workDropbear(t *testing.T, v *visit) {
	v.use(t, nil, "dropbearconvert", "openssh", "dropbear", v.key, v.own("key"))
	dbclient := func(args ...string) []string {
		return append([]string{"dbclient", "-y", "-i", v.own("key"), "-p", v.port}, args...)
	}
	v.wantStream(t, dbclient("root@127.0.0.1", "cat")...)
	v.wantCode(t, 42, dbclient("root@127.0.0.1", "exit 42")...)
	v.wantTerminal(t, dbclient("-t", "root@127.0.0.1", "'"+isTerminal+"'")...)
}

// wantTerminal runs a client on a terminal of its own.
func (v *visit) wantTerminal(t *testing.T, program ...string) {
	t.Helper()
	got := string(v.use(t, nil, "script", "-qec", strings.Join(program, " "), os.DevNull))
	if !strings.Contains(got, "a terminal\r\n") {
		t.Errorf("%s: %q", strings.Join(program, " "), got)
	}
}

// putty is a command line of one of PuTTY's clients, which know the server's
// key and have the user's in a format of their own.
func (v *visit) putty(t *testing.T, program string, args ...string) []string {
	t.Helper()
	key := v.own("key.ppk")
	v.use(t, nil, "puttygen", v.key, "-O", "private", "-o", key)
	public, err := os.ReadFile(v.hostKey + ".pub")
	must(t, err)
	hostKey, _, _, _, err := ssh.ParseAuthorizedKey(public)
	must(t, err)
	options := []string{program, "-batch", "-i", key, "-P", v.port, "-hostkey", ssh.FingerprintSHA256(hostKey)}
	return append(options, args...)
}

func workPlink(t *testing.T, v *visit) {
	v.wantStream(t, v.putty(t, "plink", "-T", "root@127.0.0.1", "cat")...)
	v.wantCode(t, 42, v.putty(t, "plink", "root@127.0.0.1", "exit 42")...)
	v.wantTerminal(t, v.putty(t, "plink", "-t", "root@127.0.0.1", "'"+isTerminal+"'")...)
}

// psftpCommands work below FOLDER, on a TREE that is sent and fetched into OWN.
const psftpCommands = `put -r TREE FOLDER/tree
get -r FOLDER/tree OWN/back
mkdir FOLDER/d
mkdir FOLDER/e
cd FOLDER/d
put TREE/notes.txt draft
mv draft notes
chmod 604 notes
rmdir FOLDER/e
ls
del FOLDER/tree/large
`

func workPSFTP(t *testing.T, v *visit) {
	script := strings.NewReplacer("TREE", v.tree, "FOLDER", v.folder, "OWN", v.mine).Replace(psftpCommands)
	must(t, os.WriteFile(v.own("script"), []byte(script), 0o600))
	v.use(t, nil, v.putty(t, "psftp", "-b", v.own("script"), "root@127.0.0.1")...)
	wantSame(t, v.tree, v.own("back"))
	wantFile(t, v.here(v.at("d/notes")), strings.Repeat("notes.txt", 1000), 0o604)
	must(t, os.Rename(v.own("back/large"), v.here(v.at("tree/large"))))
	wantSame(t, v.tree, v.here(v.at("tree")))
}

// lftpCommands mirror a tree there and back, then what has changed.
const lftpCommands = `set cmd:fail-exit yes
set net:max-retries 1
set sftp:connect-program "ssh -a -x -F CONFIG"
open -u root, sftp://job
mirror -R --no-umask --parallel=3 TREE FOLDER/tree
mirror --no-umask --parallel=3 FOLDER/tree OWN/back
mv FOLDER/tree/notes.txt FOLDER/notes
chmod 604 FOLDER/notes
mirror -R --no-umask --only-newer TREE FOLDER/tree
ls FOLDER
bye
`

func workLFTP(t *testing.T, v *visit) {
	script := strings.NewReplacer("TREE", v.tree, "FOLDER", v.folder, "OWN", v.mine, "CONFIG", v.config).Replace(lftpCommands)
	v.use(t, []byte(script), "lftp", "-f", "/dev/stdin")
	for _, copied := range []string{v.here(v.at("tree")), v.own("back")} {
		wantDiff(t, treediff.DiffSeconds, v.tree, copied, `".": mtime`, `"sub dir": mtime`) // lftp keeps those of files
	}
	wantFile(t, v.here(v.at("notes")), strings.Repeat("notes.txt", 1000), 0o604)
}

// smallFiles is how many files are written as git writes its own.
const smallFiles = 200

// workSSHFS works on a mounted folder as on any other.
func workSSHFS(t *testing.T, v *visit) {
	point := v.own("mounted")
	must(t, os.Mkdir(point, 0o755))
	v.use(t, nil, v.openSSH("sshfs", "job:"+v.folder, point)...)
	mounted := true
	t.Cleanup(func() {
		if mounted {
			unix.Unmount(point, unix.MNT_DETACH)
		}
	})
	tool(t, "cp", "-a", v.tree, filepath.Join(point, "tree"))
	wantSame(t, v.tree, filepath.Join(point, "tree"))
	writeLikeGit(t, filepath.Join(point, "objects"))
	var size unix.Statfs_t
	if must(t, unix.Statfs(point, &size)); size.Blocks == 0 {
		t.Error("the mounted file system has no size")
	}
	v.use(t, nil, "fusermount3", "-u", point)
	mounted = false
	wantDiff(t, treediff.DiffSeconds, v.tree, v.here(v.at("tree")))
	wantObjects(t, v.here(v.at("objects")))
}

// writeLikeGit writes small files under another name first, some of them over
// an older one, and gives one of them a second name.
func writeLikeGit(t *testing.T, folder string) {
	t.Helper()
	must(t, os.Mkdir(folder, 0o755))
	for round := range 2 {
		for i := range smallFiles {
			lock := filepath.Join(folder, fmt.Sprintf("%d.lock", i))
			must(t, os.WriteFile(lock, fmt.Appendf(nil, "%d of round %d\n", i, round), 0o444))
			must(t, os.Rename(lock, filepath.Join(folder, fmt.Sprint(i%(smallFiles/2)))))
		}
	}
	must(t, os.Symlink("0", filepath.Join(folder, "HEAD")))
	must(t, os.Truncate(filepath.Join(folder, "1"), 3))
	must(t, os.Remove(filepath.Join(folder, "2")))
}

func wantObjects(t *testing.T, folder string) {
	t.Helper()
	wantFile(t, filepath.Join(folder, "HEAD"), "100 of round 1\n", 0o444)
	wantFile(t, filepath.Join(folder, "1"), "101", 0o444)
	wantFile(t, filepath.Join(folder, "99"), "199 of round 1\n", 0o444)
	names, err := os.ReadDir(folder)
	must(t, err)
	if len(names) != smallFiles/2 { // one more for HEAD, one less for 2
		t.Errorf("%d names are left, want %d", len(names), smallFiles/2)
	}
}
