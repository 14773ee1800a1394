package sftp

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A step is one request of a script; the handle that it opens is kept under a
// name.
type step struct {
	save   string
	kind   byte
	fields []any
}

func do(kind byte, fields ...any) step { return step{"", kind, fields} }

func extended(fields ...any) step { return step{"", fxpExtended, fields} }

func opened(save, path string, flags int) step {
	return step{save, fxpOpen, []any{path, flags, attrs{}}}
}

// ids is a list of numbers as users-groups-by-id has it.
func ids(numbers ...uint32) string {
	var b []byte
	for _, n := range numbers {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return string(b)
}

const (
	lsetstat = "lsetstat@openssh.com"
	longest  = 255 // of a name, NAME_MAX
)

// scripts are what both servers are asked, each in a tree of its own. What is
// not asked, because OpenSSH's answer would lose something: its rename replaces
// a dangling link when a link is renamed, and its copy-data reports success when
// it could not write.
var scripts = []struct {
	name  string
	args  string // options of the server
	tree  string
	steps []step
}{
	{"open flags", "", `printf 0123456789 >f; printf x >gone; mkdir d`, []step{
		opened("append", "f", openWrite|openAppend), do(fxpWrite, ref("append"), uint64(2), "AA"),
		do(fxpWrite, ref("append"), uint64(0), "BB"), do(fxpFstat, ref("append")),
		opened("both", "f", openRead|openWrite|openAppend), do(fxpWrite, ref("both"), uint64(0), "CC"),
		do(fxpRead, ref("both"), uint64(9), 100),
		opened("w", "f", openWrite), do(fxpRead, ref("w"), uint64(0), 1), do(fxpWrite, ref("w"), uint64(1), "ww"),
		opened("r", "f", openRead), do(fxpWrite, ref("r"), uint64(0), "no"), do(fxpRead, ref("r"), uint64(0), 100),
		opened("none", "f", 0), do(fxpRead, ref("none"), uint64(0), 3), do(fxpWrite, ref("none"), uint64(0), "no"),
		opened("trunc", "f", openWrite|openTruncate), do(fxpFstat, ref("trunc")), do(fxpRead, ref("r"), uint64(0), 1),
		opened("", "f", openWrite|openCreate|openExclude), opened("", "f", openWrite|openExclude),
		opened("", "new", openWrite|openTruncate), opened("", "new", openWrite|openCreate|openExclude),
		opened("", "new/", openWrite|openCreate), opened("", "d", openRead|openWrite), opened("", "d", openWrite|openCreate),
		opened("", "d/", openRead), opened("", "f/", openRead), opened("", "", openRead|openCreate),
		opened("", "missing/f", openWrite|openCreate), opened("", "creat only", openCreate),
		opened("", "append only", openAppend|openCreate), opened("all", "odd bits", openRead|openWrite|openCreate|0x7fc0),
		do(fxpWrite, ref("all"), uint64(0), "x"),
		do(fxpOpen, "sticky", openWrite|openCreate, attrs{flags: attrMode, mode: 0o107777}), do(fxpStat, "sticky"),
		do(fxpOpen, "zero", openWrite|openCreate, attrs{flags: attrMode, mode: 0}), do(fxpStat, "zero"),
		do(fxpOpen, "attrs", openWrite|openCreate, attrs{flags: attrSize | attrOwner | attrTimes, size: 9, uid: 7, gid: 8, mtime: 5}),
		do(fxpStat, "attrs"),
	}},
	{"open through links", "", `printf x >f; ln -s f l; ln -s new dangling; ln -s loop loop`, []step{
		opened("l", "l", openWrite|openTruncate), do(fxpWrite, ref("l"), uint64(0), "by link"),
		opened("", "l", openWrite|openCreate|openExclude), opened("", "dangling", openRead),
		opened("", "dangling", openWrite|openCreate|openExclude), opened("d", "dangling", openWrite|openCreate),
		do(fxpWrite, ref("d"), uint64(0), "new"), opened("", "loop", openRead), opened("", "loop", openWrite|openCreate),
	}},
	{"sparse and beyond", "", `printf abc >f`, []step{
		opened("f", "f", openRead|openWrite), do(fxpWrite, ref("f"), uint64(10), "far"), do(fxpRead, ref("f"), uint64(0), 100),
		do(fxpRead, ref("f"), uint64(13), 1), do(fxpRead, ref("f"), uint64(14), 1), do(fxpRead, ref("f"), uint64(1<<40), 1),
		do(fxpRead, ref("f"), uint64(12), 0), do(fxpRead, ref("f"), uint64(100), 0), do(fxpWrite, ref("f"), uint64(20), ""),
		do(fxpFstat, ref("f")), do(fxpRead, ref("f"), uint64(1<<64-1), 1), do(fxpWrite, ref("f"), uint64(1<<64-1), "x"),
		do(fxpWrite, ref("f"), uint64(1<<63-1), "x"), do(fxpRead, ref("f"), uint64(0), maxData),
	}},
	{"mkdir", "", `printf x >f; ln -s nowhere l`, []step{
		do(fxpMkdir, "d", attrs{}), do(fxpMkdir, "d", attrs{}), do(fxpMkdir, "f", attrs{}), do(fxpMkdir, "l", attrs{}),
		do(fxpMkdir, "d/", attrs{}), do(fxpMkdir, "new/", attrs{}), do(fxpMkdir, "a/b", attrs{}), do(fxpMkdir, "f/b", attrs{}),
		do(fxpMkdir, "private", attrs{flags: attrMode, mode: 0o700}), do(fxpMkdir, "wide", attrs{flags: attrMode, mode: 0o1777}),
		do(fxpMkdir, "special", attrs{flags: attrMode, mode: 0o6755}), do(fxpMkdir, "zero", attrs{flags: attrMode}),
		do(fxpMkdir, ".", attrs{}), do(fxpMkdir, "..", attrs{}), do(fxpMkdir, "", attrs{}),
		do(fxpMkdir, "owner", attrs{flags: attrOwner | attrTimes, uid: 5, gid: 5, mtime: 5}), do(fxpStat, "owner"),
	}},
	{"mkdir with a umask", "-u 027", ``, []step{
		do(fxpMkdir, "d", attrs{}), do(fxpMkdir, "wide", attrs{flags: attrMode, mode: 0o777}),
		do(fxpOpen, "f", openWrite|openCreate, attrs{}), do(fxpOpen, "g", openWrite|openCreate, attrs{flags: attrMode, mode: 0o4777}),
		do(fxpSetstat, "f", attrs{flags: attrMode, mode: 0o666}), do(fxpStat, "f"),
	}},
	{"removal", "", `mkdir d full full/d; printf x >f; ln -s f l; ln -s full dl; mkfifo p`, []step{
		do(fxpRemove, "d"), do(fxpRmdir, "f"), do(fxpRmdir, "full"), do(fxpRmdir, "l"), do(fxpRmdir, "dl"), do(fxpRemove, "missing"),
		do(fxpRmdir, "missing"), do(fxpRemove, "f/"), do(fxpRemove, "f/x"), do(fxpRmdir, "d/."), do(fxpRmdir, "full/d/.."),
		do(fxpRemove, ""), do(fxpRmdir, ""), do(fxpRemove, "p"), do(fxpRemove, "l"), do(fxpRemove, "dl"), do(fxpRmdir, "d/"),
		do(fxpRemove, "f"), do(fxpRemove, "f"), do(fxpRmdir, "."), do(fxpRmdir, "full/d"), do(fxpRmdir, "full"),
	}},
	{"an open file that is removed", "", `printf abc >f; printf x >g`, []step{
		opened("f", "f", openRead|openWrite), do(fxpRemove, "f"), do(fxpRead, ref("f"), uint64(0), 10),
		do(fxpWrite, ref("f"), uint64(3), "d"), do(fxpFstat, ref("f")), do(fxpStat, "f"),
		do(fxpFsetstat, ref("f"), attrs{flags: attrMode, mode: 0o600}), do(fxpClose, ref("f")),
		opened("g", "g", openWrite), do(fxpRename, "g", "h"), do(fxpWrite, ref("g"), uint64(0), "renamed"), do(fxpClose, ref("g")),
	}},
	{"rename", "", `mkdir d e full full/x; printf f >f; printf g >g; ln -s f l; ln -s no dangling; ln f hard; mkfifo p`, []step{
		do(fxpRename, "f", "g"), do(fxpRename, "f", "d"), do(fxpRename, "d", "f"), do(fxpRename, "d", "e"), do(fxpRename, "f", "l"),
		do(fxpRename, "f", "dangling"), do(fxpRename, "f", "hard"), do(fxpRename, "f", "f"),
		do(fxpRename, "p", "g"), do(fxpRename, "missing", "g"), do(fxpRename, "missing", "new"), do(fxpRename, "", "new"),
		do(fxpRename, "f", ""), do(fxpRename, "f", "no/new"), do(fxpRename, "f", "g/new"), do(fxpRename, "full", "full/x/y"),
		do(fxpRename, "f", "new"), do(fxpRename, "d", "newd"), do(fxpRename, "l", "newl"), do(fxpRename, "p", "newp"),
		do(fxpRename, "full", "moved"), do(fxpRename, "newd", "e/newd"), do(fxpRename, "new", "e/newd/new"),
	}},
	{"posix-rename", "", `mkdir d e full full/x; printf f >f; printf g >g; ln -s f l; ln f hard`, []step{
		extended("posix-rename@openssh.com", "f", "g"), extended("posix-rename@openssh.com", "g", "d"),
		extended("posix-rename@openssh.com", "d", "g"), extended("posix-rename@openssh.com", "e", "full"),
		extended("posix-rename@openssh.com", "d", "e"), extended("posix-rename@openssh.com", "g", "hard"),
		extended("posix-rename@openssh.com", "g", "l"), extended("posix-rename@openssh.com", "no", "g"),
		extended("posix-rename@openssh.com", "full", "full/x/y"), extended("posix-rename@openssh.com", "", ""),
	}},
	{"hardlink", "", `mkdir d; printf f >f; ln -s f l; ln -s no dangling`, []step{
		extended("hardlink@openssh.com", "f", "g"), extended("hardlink@openssh.com", "f", "g"), extended("hardlink@openssh.com", "d", "e"),
		extended("hardlink@openssh.com", "l", "l2"), extended("hardlink@openssh.com", "dangling", "d2"),
		extended("hardlink@openssh.com", "no", "x"), extended("hardlink@openssh.com", "f", "d"), extended("hardlink@openssh.com", "f", "no/x"),
		do(fxpStat, "f"), do(fxpLstat, "l2"),
	}},
	{"setstat", "", `mkdir d; printf 12345 >f; printf s >suid; chmod 6755 suid; ln -s f l; ln -s no dangling`, []step{
		do(fxpSetstat, "f", attrs{flags: attrSize, size: 2}), do(fxpSetstat, "f", attrs{flags: attrSize, size: 8}),
		do(fxpSetstat, "l", attrs{flags: attrMode, mode: 0o600}), do(fxpStat, "f"),
		do(fxpSetstat, "l", attrs{flags: attrTimes, atime: 11, mtime: 1e9}), do(fxpStat, "f"),
		do(fxpSetstat, "l", attrs{flags: attrOwner, uid: 12, gid: 34}), do(fxpStat, "f"), do(fxpLstat, "l"),
		do(fxpSetstat, "f", attrs{flags: attrOwner, uid: 1<<32 - 1, gid: 55}), do(fxpStat, "f"),
		do(fxpSetstat, "suid", attrs{flags: attrOwner, uid: 1, gid: 1}), do(fxpStat, "suid"),
		do(fxpSetstat, "d", attrs{flags: attrMode, mode: 0o2775}), do(fxpSetstat, "d", attrs{flags: attrOwner, uid: 1, gid: 2}),
		do(fxpSetstat, "d", attrs{flags: attrTimes, mtime: 1e9}), do(fxpStat, "d"), do(fxpSetstat, "d", attrs{flags: attrSize}),
		do(fxpSetstat, "dangling", attrs{flags: attrMode, mode: 0o600}), do(fxpSetstat, "no", attrs{flags: attrSize}),
		do(fxpSetstat, "f", attrs{flags: attrSize, size: 1 << 63}), do(fxpSetstat, "f", attrs{flags: attrSize, size: 1<<64 - 1}),
		do(fxpSetstat, "f", attrs{flags: attrMode, mode: 0o107777}), do(fxpStat, "f"),
		do(fxpSetstat, "f", attrs{flags: attrSize | attrMode, size: 1 << 63, mode: 0o640}), do(fxpStat, "f"),
		do(fxpSetstat, "f", attrs{}), do(fxpSetstat, "no", attrs{}), do(fxpSetstat, "", attrs{flags: attrMode}),
		do(fxpSetstat, "f", raw("\x80\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01a\x00\x00\x00\x01b")),
		do(fxpSetstat, "f", attrs{flags: attrTimes, atime: 1<<32 - 1, mtime: 1<<31 - 1}), do(fxpStat, "f"),
	}},
	{"lsetstat", "", `mkdir d; printf 12345 >f; ln -s f l; ln -s no dangling`, []step{
		extended(lsetstat, "l", attrs{flags: attrTimes, mtime: 1e9}), do(fxpLstat, "l"), do(fxpStat, "l"),
		extended(lsetstat, "l", attrs{flags: attrOwner, uid: 3, gid: 4}), do(fxpLstat, "l"), do(fxpStat, "l"),
		extended(lsetstat, "l", attrs{flags: attrMode, mode: 0o600}), extended(lsetstat, "l", attrs{flags: attrSize, size: 1}),
		extended(lsetstat, "dangling", attrs{flags: attrOwner | attrTimes, uid: 3, gid: 4, mtime: 1e9}), do(fxpLstat, "dangling"),
		extended(lsetstat, "f", attrs{flags: attrMode, mode: 0o640}), do(fxpStat, "f"), extended(lsetstat, "d", attrs{flags: attrMode, mode: 0o700}),
		extended(lsetstat, "no", attrs{flags: attrTimes}), extended(lsetstat, "f", attrs{}),
		extended(lsetstat, "f", attrs{flags: attrSize | attrMode, mode: 0o600}), do(fxpStat, "f"),
	}},
	{"fsetstat", "", `printf 12345 >f; mkdir d`, []step{
		opened("r", "f", openRead), do(fxpFsetstat, ref("r"), attrs{flags: attrMode, mode: 0o4711}), do(fxpFstat, ref("r")),
		do(fxpFsetstat, ref("r"), attrs{flags: attrSize, size: 1}), do(fxpFsetstat, ref("r"), attrs{flags: attrOwner, uid: 9, gid: 8}),
		do(fxpFsetstat, ref("r"), attrs{flags: attrTimes, mtime: 1e9}), do(fxpFstat, ref("r")),
		do(fxpFsetstat, ref("r"), attrs{flags: attrSize | attrMode, size: 1, mode: 0o600}), do(fxpFstat, ref("r")),
		opened("w", "f", openWrite), do(fxpFsetstat, ref("w"), attrs{flags: attrSize, size: 100}), do(fxpFstat, ref("w")),
		do(fxpFsetstat, ref("w"), attrs{flags: attrSize, size: 1 << 63}), do(fxpFsetstat, ref("w"), attrs{}),
		{"d", fxpOpendir, []any{"d"}}, do(fxpFsetstat, ref("d"), attrs{flags: attrMode, mode: 0o700}), do(fxpStat, "d"),
	}},
	{"symlink", "", `mkdir d; printf f >f; ln -s f l`, []step{
		do(fxpSymlink, "target", "new"), do(fxpReadlink, "new"), do(fxpSymlink, "/abs/../olute/", "abs"), do(fxpReadlink, "abs"),
		do(fxpSymlink, "", "empty"), do(fxpSymlink, "x", ""), do(fxpSymlink, "x", "f"), do(fxpSymlink, "x", "l"), do(fxpSymlink, "x", "d"),
		do(fxpSymlink, "../up", "d/up"), do(fxpReadlink, "d/up"), do(fxpSymlink, "x", "no/x"), do(fxpSymlink, strings.Repeat("t/", 2000), "long"),
		do(fxpReadlink, "long"), do(fxpSymlink, strings.Repeat("t/", 3000), "toolong"), do(fxpReadlink, "f"), do(fxpReadlink, "d"),
		do(fxpReadlink, "no"), do(fxpReadlink, ""), do(fxpReadlink, "new/"), do(fxpSymlink, "sp ace\n\xff", "od\xff"), do(fxpReadlink, "od\xff"),
	}},
	{"realpath", "", `mkdir -p a/b; printf f >f; ln -s a/b ab; ln -s ../f a/up; ln -s no dangling; ln -s no/no dangling2; ln -s loop loop; ln -s b/../b a/round`, []step{
		do(fxpRealpath, ""), do(fxpRealpath, "."), do(fxpRealpath, "/"), do(fxpRealpath, "//"), do(fxpRealpath, "/.."), do(fxpRealpath, "./"),
		do(fxpRealpath, "a/./b//"), do(fxpRealpath, "ab"), do(fxpRealpath, "ab/.."), do(fxpRealpath, "ab/../up"), do(fxpRealpath, "a/round"),
		do(fxpRealpath, "no"), do(fxpRealpath, "no/"), do(fxpRealpath, "no/."), do(fxpRealpath, "no/.."), do(fxpRealpath, "no/no"),
		do(fxpRealpath, "f"), do(fxpRealpath, "f/"), do(fxpRealpath, "f/."), do(fxpRealpath, "f/.."), do(fxpRealpath, "f/x"),
		do(fxpRealpath, "dangling"), do(fxpRealpath, "dangling/"), do(fxpRealpath, "dangling/x"), do(fxpRealpath, "dangling2"),
		do(fxpRealpath, "loop"), do(fxpRealpath, "loop/x"), do(fxpRealpath, strings.Repeat("n", longest)), do(fxpRealpath, strings.Repeat("n", longest+1)),
		do(fxpRealpath, strings.Repeat("a/../", 700)), do(fxpRealpath, strings.Repeat("a/../", 900)), do(fxpRealpath, "\xff/.."), do(fxpRealpath, "\xff"),
		extended("expand-path@openssh.com", ""), extended("expand-path@openssh.com", "f"), extended("expand-path@openssh.com", "no"),
		extended("expand-path@openssh.com", "no/no"), extended("expand-path@openssh.com", "~nobody-by-this-name"),
		extended("expand-path@openssh.com", "x~"), extended("expand-path@openssh.com", "./~"),
	}},
	{"names", "", `mkdir d`, []step{
		opened("", strings.Repeat("n", longest), openWrite|openCreate), opened("", strings.Repeat("n", longest+1), openWrite|openCreate),
		do(fxpMkdir, strings.Repeat("m", longest), attrs{}), do(fxpMkdir, strings.Repeat("m", longest+1), attrs{}),
		do(fxpStat, strings.Repeat("./", 1900)+"d"), do(fxpStat, strings.Repeat("./", 2100)+"d"),
		opened("", "\xff\xfe", openWrite|openCreate), opened("", "caf\xc3\xa9", openWrite|openCreate), opened("", "new\nline", openWrite|openCreate),
		opened("", " sp ace ", openWrite|openCreate), opened("", "-dash", openWrite|openCreate), opened("", "tab\t\x01", openWrite|openCreate),
		do(fxpLstat, "\xff\xfe"), do(fxpRename, "\xff\xfe", "\xfe\xff"), do(fxpRename, "new\nline", "\x1b[31m"),
		{"d", fxpOpendir, []any{"."}}, do(fxpReaddir, ref("d")), do(fxpReaddir, ref("d")),
	}},
	{"directories", "", `mkdir d empty; printf x >f; ln -s d l; mknod null c 1 3; mkfifo p; printf s >s; chmod 6755 s; printf t >t; chmod 0 t; chown 12345:54321 t; touch -d '2001-02-03 04:05:06' t s`, []step{
		do(fxpOpendir, "f"), do(fxpOpendir, "no"), do(fxpOpendir, ""), do(fxpOpendir, "p"), do(fxpOpendir, "null"),
		{"l", fxpOpendir, []any{"l"}}, do(fxpReaddir, ref("l")), do(fxpReaddir, ref("l")), do(fxpReaddir, ref("l")), do(fxpClose, ref("l")),
		{"e", fxpOpendir, []any{"empty/"}}, do(fxpRmdir, "empty"), do(fxpReaddir, ref("e")), do(fxpReaddir, ref("e")), do(fxpClose, ref("e")),
		{"a", fxpOpendir, []any{"."}}, do(fxpReaddir, ref("a")), do(fxpReaddir, ref("a")), do(fxpStat, "null"), do(fxpStat, "p"),
	}},
	{"handle misuse", "", `mkdir d; printf abc >f`, []step{
		opened("f", "f", openRead|openWrite), {"d", fxpOpendir, []any{"d"}},
		do(fxpReaddir, ref("f")), do(fxpRead, ref("d"), uint64(0), 1), do(fxpWrite, ref("d"), uint64(0), "x"), do(fxpFstat, ref("d")),
		do(fxpFsetstat, ref("d"), attrs{}), extended("fsync@openssh.com", ref("d")), extended("fstatvfs@openssh.com", ref("d")),
		extended("copy-data", ref("d"), uint64(0), uint64(0), ref("f"), uint64(0)), extended("copy-data", ref("f"), uint64(0), uint64(0), ref("d"), uint64(0)),
		do(fxpRead, "", uint64(0), 1), do(fxpRead, "abcd", uint64(0), 1), do(fxpRead, "\xff\xff\xff\xff", uint64(0), 1),
		do(fxpRead, strings.Repeat("h", 300), uint64(0), 1), do(fxpWrite, "", uint64(0), "x"), do(fxpFstat, "x"), do(fxpReaddir, ""),
		do(fxpClose, ""), do(fxpClose, strings.Repeat("h", 300)), extended("fsync@openssh.com", "x"), extended("fstatvfs@openssh.com", "x"),
		do(fxpClose, ref("f")), do(fxpClose, ref("f")), do(fxpRead, ref("f"), uint64(0), 1), do(fxpWrite, ref("f"), uint64(0), "x"),
		do(fxpFstat, ref("f")), do(fxpFsetstat, ref("f"), attrs{}), do(fxpClose, ref("d")), do(fxpClose, ref("d")), do(fxpReaddir, ref("d")),
	}},
	{"copy-data", "", `printf 0123456789 >src; printf abc >dst; printf '' >empty; ln src same`, []step{
		opened("r", "src", openRead|openWrite), opened("w", "dst", openRead|openWrite), opened("e", "empty", openRead), opened("a", "dst", openWrite|openAppend),
		extended("copy-data", ref("r"), uint64(0), uint64(0), ref("w"), uint64(3)), do(fxpRead, ref("w"), uint64(0), 100),
		extended("copy-data", ref("r"), uint64(2), uint64(3), ref("w"), uint64(0)), do(fxpRead, ref("w"), uint64(0), 100),
		extended("copy-data", ref("r"), uint64(100), uint64(0), ref("w"), uint64(0)), extended("copy-data", ref("e"), uint64(0), uint64(0), ref("w"), uint64(0)),
		extended("copy-data", ref("w"), uint64(0), uint64(2), ref("r"), uint64(20)), do(fxpRead, ref("r"), uint64(0), 100),
		extended("copy-data", ref("r"), uint64(0), uint64(0), ref("r"), uint64(5)), extended("copy-data", ref("r"), uint64(0), uint64(1), ref("a"), uint64(0)),
		extended("copy-data", ref("a"), uint64(0), uint64(1), ref("w"), uint64(0)),
		extended("copy-data", "x", uint64(0), uint64(1), ref("w"), uint64(0)), extended("copy-data", ref("r"), uint64(0), uint64(1), "x", uint64(0)),
		extended("copy-data", ref("r"), uint64(1<<63), uint64(1), ref("w"), uint64(0)), extended("copy-data", ref("r"), uint64(0), uint64(1), ref("w"), uint64(1<<63)),
		do(fxpRead, ref("w"), uint64(0), 100),
	}},
	{"accounts", "", ``, []step{
		extended("users-groups-by-id@openssh.com", ids(0, 1, 2), ids(0, 5)), extended("users-groups-by-id@openssh.com", ids(4000000000, 0), ""),
		extended("users-groups-by-id@openssh.com", "", ""), extended("home-directory", "root"),
	}},
	{"unknown", "", ``, []step{
		extended("no@such.extension"), extended(""), extended("no@such.extension", strings.Repeat("x", 100000)), extended("FSYNC@openssh.com", "x"),
	}},
	{"read only", "-R", `printf x >f; mkdir d`, []step{
		opened("r", "f", openRead), do(fxpRead, ref("r"), uint64(0), 1), opened("", "f", openWrite), opened("", "f", openRead|openWrite),
		opened("", "new", openRead|openCreate), opened("", "f", openRead|openAppend), do(fxpWrite, ref("r"), uint64(0), "y"),
		do(fxpSetstat, "f", attrs{}), do(fxpFsetstat, ref("r"), attrs{}), do(fxpRemove, "f"), do(fxpMkdir, "n", attrs{}), do(fxpRmdir, "d"),
		do(fxpRename, "f", "g"), do(fxpSymlink, "f", "g"), do(fxpStat, "f"), do(fxpOpendir, "d"), do(fxpRealpath, "f"),
		extended("posix-rename@openssh.com", "f", "g"), extended("hardlink@openssh.com", "f", "g"), extended(lsetstat, "f", attrs{}),
		extended("fsync@openssh.com", ref("r")), extended("copy-data", ref("r"), uint64(0), uint64(0), ref("r"), uint64(0)),
	}},
	{"allowed requests", "-p open,read,stat,realpath,limits", `printf x >f`, []step{
		opened("f", "f", openRead), do(fxpRead, ref("f"), uint64(0), 9), do(fxpStat, "f"), do(fxpLstat, "f"), do(fxpClose, ref("f")), do(fxpRemove, "f"),
		opened("w", "f", openWrite), do(fxpWrite, ref("w"), uint64(0), "y"), do(fxpRealpath, "."), extended("hardlink@openssh.com", "f", "g"),
	}},
	{"denied requests", "-P remove,rename,hardlink,stat -p stat,lstat,open,remove", `printf x >f`, []step{
		do(fxpStat, "f"), do(fxpLstat, "f"), do(fxpRemove, "f"), do(fxpRename, "f", "g"), do(fxpReadlink, "f"), extended("hardlink@openssh.com", "f", "g"),
	}},
	{"start directory", "-d /", ``, []step{do(fxpRealpath, "."), do(fxpRealpath, "no"), do(fxpStat, "etc"), extended("expand-path@openssh.com", "etc")}},
}

// detail is what two servers should agree on, with more in it than String has:
// times that the script set, and the contents of extended replies.
func (s step) detail(r reply) string {
	d := r.body
	switch {
	case r.kind == fxpAttrs:
		if a := d.attrs(); a.mtime < 1<<30 || a.mtime == 1<<31-1 {
			return fmt.Sprintf("%v modified %d", r, a.mtime)
		}
	case r.kind == fxpExtendedReply && s.fields[0] == "users-groups-by-id@openssh.com":
		return fmt.Sprintf("names %q", d.rest)
	}
	return r.String()
}

// The two servers answer each script word for word and leave the same tree.
func TestScriptsAreOpenSSHs(t *testing.T) {
	needRoot(t)
	for _, script := range scripts {
		t.Run(script.name, func(t *testing.T) {
			theirTree, ourTree := t.TempDir(), t.TempDir()
			sh(t, theirTree, script.tree)
			sh(t, ourTree, script.tree)
			opts, err := ParseOptions(strings.Fields(script.args))
			if err != nil {
				t.Fatal(err)
			}
			opts.Home, opts.User = ourTree, "root"
			theirs := startOpenSSH(t, theirTree, strings.Fields(script.args)...)
			ours := startServe(t, enter(t, ""), opts)
			for i, s := range script.steps {
				want := strings.ReplaceAll(s.detail(theirs.open(s.save, s.kind, s.fields...)), theirTree, "TREE")
				got := strings.ReplaceAll(s.detail(ours.open(s.save, s.kind, s.fields...)), ourTree, "TREE")
				if got != want {
					t.Errorf("step %d, packet type %d %.60q:\n got %.900s\nwant %.900s", i, s.kind, s.fields, got, want)
				}
			}
			if got, want := snapshot(t, ourTree), snapshot(t, theirTree); !slices.Equal(got, want) {
				t.Errorf("trees differ:\n got %.2000q\nwant %.2000q", got, want)
			}
		})
	}
}

// A large directory comes in the same number of batches of the same size.
func TestLargeDirectoryIsOpenSSHs(t *testing.T) {
	dir := t.TempDir()
	sh(t, dir, `i=0; while [ $i -lt 5000 ]; do : >"file number $i"; i=$((i+1)); done`)
	listing := func(c *client) (batches []int, names []string) {
		c.open("d", fxpOpendir, ".")
		for {
			r := c.call(fxpReaddir, ref("d"))
			if r.kind != fxpName {
				return batches, append(names, r.String())
			}
			n := r.body.u32()
			batches = append(batches, int(n))
			for range n {
				names = append(names, fmt.Sprint(r.body.string(), r.body.string(), r.body.attrs()))
			}
		}
	}
	wantBatches, want := listing(startOpenSSH(t, dir))
	gotBatches, got := listing(startServe(t, enter(t, ""), Options{Home: dir}))
	if !slices.Equal(gotBatches, wantBatches) {
		t.Errorf("batches of %v\nwant %v", gotBatches, wantBatches)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%d entries, want the same %d as OpenSSH", len(got), len(want))
	}
}

// A client that has too many files open is told the same.
func TestTooManyHandlesIsAFailureAsInOpenSSH(t *testing.T) {
	cmd := exec.Command("/bin/sh", "-c", "ulimit -n 32; exec "+needTool(t, realServer))
	cmd.Dir = t.TempDir()
	exhaust := func(c *client) (last string) {
		for range maxHandles + 1 {
			if last = c.call(fxpOpen, "f", openWrite|openCreate, attrs{}).String(); last != "handle" {
				return last
			}
		}
		return "no end"
	}
	want := exhaust(startCommand(t, cmd))
	if got := exhaust(startServe(t, enter(t, ""), Options{Home: t.TempDir()})); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// What is said of limits is OpenSSH's, apart from the handles.
func TestLimitsAreOpenSSHs(t *testing.T) {
	limits := func(c *client) []uint64 {
		r := c.call(fxpExtended, "limits@openssh.com")
		return []uint64{r.body.u64(), r.body.u64(), r.body.u64()}
	}
	want := limits(startOpenSSH(t, t.TempDir()))
	if got := limits(startServe(t, enter(t, ""), Options{})); !slices.Equal(got, want) {
		t.Errorf("got %d, want %d", got, want)
	}
}

// statvfs tells the same of a file system that nothing changes meanwhile.
func TestStatvfsIsOpenSSHs(t *testing.T) {
	ask := func(c *client) string {
		r := c.call(fxpExtended, "statvfs@openssh.com", "/proc")
		return fmt.Sprintf("%d %x", r.kind, r.body.rest)
	}
	want := ask(startOpenSSH(t, t.TempDir()))
	if got := ask(startServe(t, enter(t, ""), Options{})); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// What ends a session with OpenSSH's server ends it here, and nothing else does.
func TestBadPacketsEndTheSessionAsInOpenSSH(t *testing.T) {
	for name, stream := range map[string]string{
		"only hello":                   hello,
		"empty packet":                 hello + "\x00\x00\x00\x00",
		"too long":                     hello + "\x00\x04\x00\x01\x00",
		"no hello":                     one(fxpStat, "/"),
		"hello twice":                  hello + hello,
		"hello of another version":     "\x00\x00\x00\x05\x01\x00\x00\x00\x06" + one(fxpStat, "/"),
		"hello with extensions":        "\x00\x00\x00\x0f\x01\x00\x00\x00\x03\x00\x00\x00\x01a\x00\x00\x00\x01b" + one(fxpStat, "/"),
		"hello without version":        "\x00\x00\x00\x01\x01",
		"no id":                        hello + "\x00\x00\x00\x01\x11",
		"half an id":                   hello + "\x00\x00\x00\x03\x11\x00\x00",
		"string beyond the packet":     hello + one(fxpStat, raw("\x00\x00\x00\x09/")),
		"string of no bytes":           hello + one(fxpStat, raw("")),
		"bytes after the last field":   hello + one(fxpStat, "/", raw("more")),
		"attributes missing":           hello + one(fxpSetstat, "/nowhere", raw("\x00\x00\x00\x04")),
		"no attributes at all":         hello + one(fxpMkdir, "/"),
		"extended attributes missing":  hello + one(fxpSetstat, "/nowhere", raw("\x80\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00")),
		"read without length":          hello + one(fxpRead, "hand", uint64(0)),
		"write without data":           hello + one(fxpWrite, "hand", uint64(0)),
		"rename to nothing":            hello + one(fxpRename, "/nowhere"),
		"extension without name":       hello + one(fxpExtended),
		"extension without fields":     hello + one(fxpExtended, "copy-data"),
		"unknown extension with bytes": hello + one(fxpExtended, "x@y", raw("\xff\xff\xff\xff")),
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(needTool(t, realServer))
			cmd.Dir = t.TempDir()
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			want := survives(in, out, stream)
			cmd.Wait()

			fromClient, toServer := pipe(t)
			fromServer, toClient := pipe(t)
			go func() {
				Serve(t.Context(), stdio{fromClient, toClient}, enter(t, ""), Options{})
				toClient.Close()
				fromClient.Close()
			}()
			if got := survives(toServer, fromServer, stream); got != want {
				t.Errorf("session goes on: %v, want %v", got, want)
			}
		})
	}
}

// survives reports whether a server still answers after a stream.
func survives(in io.WriteCloser, out io.Reader, stream string) bool {
	const probe = 4711
	io.WriteString(in, stream)
	in.Write(encode(fxpStat, probe, nil, "/"))
	defer in.Close()
	r := bufio.NewReader(out)
	for {
		p, err := readPacket(r)
		if err != nil {
			return false
		}
		d := decoder{rest: p.b}
		if _, id := d.u8(), d.u32(); id == probe {
			return true
		}
	}
}

// A full disk is reported by the write that did not fit, and what did stays.
func TestFullDiskIsOpenSSHs(t *testing.T) {
	needRoot(t)
	fill := func(c *client) (answers []string) {
		c.open("f", fxpOpen, "f", openWrite|openCreate, attrs{})
		for i := range 5 {
			answers = append(answers, c.call(fxpWrite, ref("f"), uint64(i*30000), strings.Repeat("x", 30000)).String())
		}
		return append(answers, c.call(fxpMkdir, "d", attrs{}).String(), c.call(fxpClose, ref("f")).String())
	}
	small := func() string {
		dir := t.TempDir()
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=96k,nr_inodes=2"); err != nil {
			t.Skipf("needs to mount a tmpfs: %v", err)
		}
		t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
		return dir
	}
	theirTree, ourTree := small(), small()
	want := fill(startOpenSSH(t, theirTree))
	if got := fill(startServe(t, enter(t, ""), Options{Home: ourTree})); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if !slices.Contains(want, `status 4 "Failure"`) {
		t.Errorf("the disk was not full: %q", want)
	}
	if got, want := snapshot(t, ourTree), snapshot(t, theirTree); !slices.Equal(got, want) {
		t.Errorf("left %.200q, want %.200q", got, want)
	}
}

// A client that is gone in the middle of a write leaves what was complete.
func TestDisconnectInAWriteLeavesWhatOpenSSHLeaves(t *testing.T) {
	theirTree, ourTree := t.TempDir(), t.TempDir()
	cut := func(c *client) {
		c.open("f", fxpOpen, "f", openWrite|openCreate, attrs{})
		c.call(fxpWrite, ref("f"), uint64(0), strings.Repeat("a", 5000))
		half := encode(fxpWrite, 9, c.handles, ref("f"), uint64(5000), strings.Repeat("b", 5000))
		c.write(half[:2500])
		c.w.(io.Closer).Close()
		io.Copy(io.Discard, c.r)
	}
	cut(startOpenSSH(t, theirTree))
	fromClient, toServer := pipe(t)
	fromServer, toClient := pipe(t)
	served := make(chan error, 1)
	go func() {
		served <- Serve(t.Context(), stdio{fromClient, toClient}, enter(t, ""), Options{Home: ourTree})
		toClient.Close()
	}()
	cut(newClient(t, toServer, fromServer))
	if err := <-served; err == nil {
		t.Error("a packet that was cut is no clean end")
	}
	if got, want := snapshot(t, ourTree), snapshot(t, theirTree); !slices.Equal(got, want) {
		t.Errorf("left %.200q, want %.200q", got, want)
	}
}
