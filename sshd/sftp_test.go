package sshd

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// sftpTree is what each batch begins with, in DIR/tree. The names of users are a
// jail's own.
const sftpTree = `
	mkdir -p etc; cp /etc/passwd /etc/group etc; rm -rf tree got; mkdir -p tree/dir tree/empty; cd tree; printf text >file; printf other >other; chmod 640 other
	ln -s file link; ln -s /tree/file absolute; printf 1 >dir/one; chmod 4755 dir/one; touch -d '2001-02-03 04:05:06' file dir/one`

// sftpWork is a batch of everything that options may refuse. It goes on after what fails.
const sftpWork = `
-put DIR/authorized_keys put
-mkdir made
-get file DIR/got
-get link DIR/got
-get absolute DIR/got
-ls -ln
-chmod 600 file
-chown 12 file
-rename file moved
-rename other moved
-rename -l moved other
-rename -l moved again
-ln other hard
-ln -s ../some/where sym
-cp other copied
-rm dir
-rm link
-rmdir dir
-rmdir empty
-lls DIR/got
-df .
bye
`

// Subsystem and ForceCommand with internal-sftp's options do what sshd makes of them.
func TestSFTPIsConfiguredAsInOpenSSH(t *testing.T) {
	for name, text := range map[string]string{
		"plain":                      "Subsystem sftp internal-sftp",
		"read only":                  "Subsystem sftp internal-sftp -R",
		"umask":                      "Subsystem sftp internal-sftp -u 077",
		"umask, attached":            "Subsystem sftp internal-sftp -u0027 -l QUIET",
		"no umask":                   "Subsystem sftp internal-sftp -u 0",
		"start directory":            "Subsystem sftp internal-sftp -d DIR/tree/dir",
		"start directory of a user":  "Subsystem sftp internal-sftp -d DIR/%u/%%",
		"missing start directory":    "Subsystem sftp internal-sftp -d /nowhere",
		"denied requests":            "Subsystem sftp internal-sftp -P remove,rename,copy-data,hardlink",
		"all but one denied":         "Subsystem sftp internal-sftp -p realpath,stat,lstat,opendir,readdir,close,open,read,fstat -P fstat",
		"allowed requests":           "Subsystem sftp internal-sftp -p realpath,stat,lstat,opendir,readdir,close,open,read,fstat",
		"several":                    "Subsystem sftp internal-sftp -d DIR/tree -u 022 -P mkdir",
		"quoted":                     `Subsystem sftp "internal-sftp" "-R"`,
		"forced":                     "Subsystem sftp internal-sftp\nForceCommand internal-sftp -R",
		"forced for a user":          "Subsystem sftp internal-sftp -R\nMatch User root\nForceCommand internal-sftp -u 077",
		"forced in place of another": "Subsystem sftp /usr/lib/openssh/sftp-server\nForceCommand internal-sftp -P symlink",
		"a program":                  "Subsystem sftp /usr/lib/openssh/sftp-server -R",
		"a program forced":           "Subsystem sftp internal-sftp\nForceCommand /usr/lib/openssh/sftp-server -u 077",
		"none":                       "",
		"another name":               "Subsystem other internal-sftp",
		"in a jail":                  "Subsystem sftp internal-sftp\nChrootDirectory DIR",
		"in a jail, forced":          "Subsystem sftp internal-sftp\nChrootDirectory DIR\nForceCommand internal-sftp -d /tree/dir -u 027",
	} {
		t.Run(name, func(t *testing.T) {
			b := startBoth(t, text)
			theirs, ours := b.sftp(t, true, strings.Contains(text, "Chroot")), b.sftp(t, false, strings.Contains(text, "Chroot"))
			if theirs != ours {
				t.Errorf("%s:\n got %s\nwant %s", text, ours, theirs)
			}
		})
	}
}

// volatile is what differs by chance: times, sizes of directories, free space.
var volatile = regexp.MustCompile(`[A-Z][a-z]{2} +\d+ +(?:\d\d:\d\d|\d{4})|(?m)^(d\S+ +\S+ +\w+ +\w+ +)\d+|^ *\d+(?: +\d+){3} +\d+%`)

// sftp does the work on one of the servers and describes everything that came of it.
func (b *beside) sftp(t *testing.T, theirs, jailed bool) string {
	t.Helper()
	shell(t, b.dir, sftpTree)
	cmd := b.command(t, "sftp", "-q", "-b", "-", "root@127.0.0.1")
	if theirs {
		b.toTheirs(cmd)
	}
	tree := filepath.Join(b.dir, "tree")
	if jailed {
		tree = "/tree"
	}
	cmd.Stdin = strings.NewReader(strings.ReplaceAll("-pwd\ncd "+tree+"\n"+sftpWork, "DIR", b.dir))
	out, stderr, status := run(t, cmd)
	listing := shell(t, b.dir, `cat got 2>/dev/null || :; find tree -printf '%p %y %m %U %s %l\n' | sort`)
	return volatile.ReplaceAllString(out+stderr, "$1*") + listing + string(rune('0'+status%10))
}
