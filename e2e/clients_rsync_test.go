package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"

	"buildenv/internal/treediff"
)

func (v *visit) rsync(options ...string) []string {
	return append([]string{"rsync", "-e", "ssh -F " + v.config}, options...)
}

// workRsyncTree carries everything that a tree can have, there and back.
func workRsyncTree(t *testing.T, v *visit) {
	quirks := filepath.Join(debianRoot(), "opt/quirks")
	v.use(t, nil, v.rsync("-aHAXS", "--numeric-ids", quirks+"/", "job:"+v.at("quirks")+"/")...)
	wantDiff(t, treediff.Diff, quirks, v.here(v.at("quirks")))
	v.use(t, nil, v.rsync("-aHAXS", "--numeric-ids", "job:"+v.at("quirks")+"/", v.own("back"))...)
	wantDiff(t, treediff.Diff, quirks, v.own("back"))
}

// rsyncMiB is the size of the file that is carried; RSYNC_MIB=1024 is for a
// longer look.
func rsyncMiB(t *testing.T) int {
	t.Helper()
	given := os.Getenv("RSYNC_MIB")
	if given == "" {
		return 64
	}
	mib, err := strconv.Atoi(given)
	must(t, err)
	return mib
}

// workRsyncFile carries a file, then a change of it, and resumes a transfer
// whose client was killed.
func workRsyncFile(t *testing.T, v *visit) {
	size := int64(rsyncMiB(t)) << 20
	file := v.own("file")
	must(t, writeRandom(file, size))
	v.use(t, nil, v.rsync("-a", file, "job:"+v.folder)...)
	tool(t, "cmp", file, v.here(v.at("file")))

	overwrite(t, file, size/2, noise(64<<10))
	stats := v.use(t, nil, v.rsync("-a", "--stats", "--ignore-times", file, "job:"+v.folder)...)
	tool(t, "cmp", file, v.here(v.at("file")))
	if literal := literalData(t, stats); literal > size/16 {
		t.Errorf("a change of 64 KiB took %d bytes of %d", literal, size)
	}

	v.killMidway(t, size, v.rsync("--partial", "--bwlimit="+strconv.FormatInt(size>>12, 10), file, "job:"+v.at("resumed"))...)
	v.use(t, nil, v.rsync("--append-verify", file, "job:"+v.at("resumed"))...)
	tool(t, "cmp", file, v.here(v.at("resumed")))

	v.use(t, nil, v.rsync("-a", "job:"+v.at("file"), v.own("back"))...)
	tool(t, "cmp", file, v.own("back"))
}

// killMidway kills a transfer into the file resumed when some of it has
// arrived, and waits until the other side has kept that.
func (v *visit) killMidway(t *testing.T, size int64, program ...string) {
	t.Helper()
	client := exec.Command(program[0], program[1:]...)
	client.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(t, client.Start())
	arrived := func(pattern string) bool {
		names, _ := filepath.Glob(v.here(v.at(pattern)))
		for _, name := range names {
			if info, err := os.Stat(name); err == nil && info.Size() > size/16 {
				return info.Size() < size
			}
		}
		return false
	}
	err := poll(func() bool { return arrived(".resumed.*") })
	syscall.Kill(-client.Process.Pid, syscall.SIGKILL)
	client.Wait()
	if err == nil {
		err = poll(func() bool { return arrived("resumed") })
	}
	if err != nil {
		t.Fatalf("part of a file: %v", err)
	}
}

func overwrite(t *testing.T, name string, offset int64, content []byte) {
	t.Helper()
	file, err := os.OpenFile(name, os.O_WRONLY, 0)
	must(t, err)
	_, err = file.WriteAt(content, offset)
	must(t, err)
	must(t, file.Close())
}

// literalData is what rsync's --stats says was sent of a file.
func literalData(t *testing.T, stats []byte) int64 {
	t.Helper()
	found := regexp.MustCompile(`Literal data: ([\d,]+) bytes`).FindSubmatch(stats)
	if found == nil {
		t.Fatalf("rsync printed no statistics:\n%s", stats)
	}
	n, err := strconv.ParseInt(regexp.MustCompile(`,`).ReplaceAllString(string(found[1]), ""), 10, 64)
	must(t, err)
	return n
}
