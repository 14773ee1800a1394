package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestInitMirrorsExitCodes: a container's exit code is the one of process 1.
func TestInitMirrorsExitCodes(t *testing.T) {
	for name, c := range map[string]struct {
		args, env []string
		marker    string
		want      int
	}{
		"done":        {marker: "complete", want: 0},
		"failed":      {env: []string{"BUILD_ARCH=sparc"}, want: 1},
		"wrong usage": {args: []string{"bogus"}, want: 2},
	} {
		t.Run(name, func(t *testing.T) {
			j := newInitJob(t)
			if c.marker != "" {
				must(t, os.WriteFile(j.in(c.marker), nil, 0o644))
			}
			if got := j.start(t, c.env, c.args...).wait(t); got != c.want {
				t.Errorf("exit code %d, want %d\n%s", got, c.want, j.log(t))
			}
		})
	}
}

// TestInitForwardsSignals: the one that is signalled is process 1, the one that
// ends the job is its child.
func TestInitForwardsSignals(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(signal.String(), func(t *testing.T) {
			j := newInitJob(t)
			p := j.start(t, nil)
			j.waitServing(t)
			must(t, p.Process.Signal(signal))
			if got := p.wait(t); got != 1 {
				t.Errorf("exit code %d, want 1\n%s", got, j.log(t))
			}
			if want := "session cut short: " + signal.String(); !strings.Contains(j.log(t), want) {
				t.Errorf("no %q in the log:\n%s", want, j.log(t))
			}
			for _, marker := range []string{"failed", "exiting"} {
				if _, err := os.Stat(j.in(marker)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestInitReapsOrphans: what sessions leave behind in sessions of their own ends
// as children of process 1, and must not stay as zombies.
func TestInitReapsOrphans(t *testing.T) {
	const orphans = 5
	j := newInitJob(t)
	p := j.start(t, nil)
	j.waitServing(t)
	agent := p.children(t)[0]
	fifo := j.in("fifo")
	must(t, syscall.Mkfifo(fifo, 0o600))
	for range orphans {
		j.ssh(t, "setsid sh -c 'read line' <>"+fifo+" >/dev/null 2>&1 &")
	}
	if err := poll(func() bool { return len(p.children(t)) == 1+orphans }); err != nil {
		t.Fatalf("process 1 has the children %v, want %d: %v", p.children(t), 1+orphans, err)
	}
	must(t, os.WriteFile(fifo, []byte(strings.Repeat("end\n", orphans)), 0))
	if err := poll(func() bool { return len(p.children(t)) == 1 }); err != nil {
		t.Errorf("process 1 still has the children %v: %v", p.children(t), err)
	}
	if left := p.children(t); left[0] != agent {
		t.Errorf("left is the child %d, not the agent %d", left[0], agent)
	}
	j.ssh(t, "touch "+j.in("complete"))
	if got := p.wait(t); got != 0 {
		t.Errorf("exit code %d, want 0\n%s", got, j.log(t))
	}
}

// TestInitAfterItsChildWasKilled: as when the machine's memory runs out. The
// container starts again, and with it the job goes on.
func TestInitAfterItsChildWasKilled(t *testing.T) {
	j := newInitJob(t)
	p := j.start(t, nil)
	j.waitServing(t)
	j.ssh(t, "echo kept > "+j.in("image-root/etc/kept"))
	must(t, syscall.Kill(p.children(t)[0], syscall.SIGKILL))
	if got := p.wait(t); got != 128+int(syscall.SIGKILL) {
		t.Errorf("exit code %d, want 137\n%s", got, j.log(t))
	}
	if _, err := os.Stat(j.in("exiting")); err == nil {
		t.Error("a killed agent has left exiting")
	}

	p = j.start(t, nil)
	j.waitServing(t)
	if want := "continuing the session that was interrupted"; !strings.Contains(j.log(t), want) {
		t.Errorf("no %q in the log:\n%s", want, j.log(t))
	}
	if got := j.ssh(t, "cat "+j.in("image-root/etc/kept")); got != "kept" {
		t.Errorf("the user's file holds %q", got)
	}
	j.ssh(t, "touch "+j.in("complete"))
	if got := p.wait(t); got != 0 {
		t.Errorf("exit code %d, want 0\n%s", got, j.log(t))
	}
	if _, err := os.Stat(j.in("exiting")); err != nil {
		t.Error(err)
	}
}

// TestInitOfSSHD: the SSH server by itself as the program of a container, which
// reads its configuration again when process 1 is told to, and does not wait for
// the users when that is told to end.
func TestInitOfSSHD(t *testing.T) {
	j := newInitJob(t)
	p := j.start(t, nil, "sshd", "-D", "-e", "-o", "PidFile=none", "-f", j.config)
	j.waitServing(t)
	must(t, p.Process.Signal(syscall.SIGHUP))
	if err := poll(func() bool { return strings.Contains(j.log(t), "Received SIGHUP; restarting.") }); err != nil {
		t.Fatalf("SIGHUP: %v\n%s", err, j.log(t))
	}
	begun, told := j.in("begun"), make(chan string)
	go func() {
		out, _ := j.try("ssh", "", "-tt", "job", "touch "+begun+"; read -r line")
		told <- out
	}()
	if err := poll(func() bool { _, err := os.Stat(begun); return err == nil }); err != nil {
		t.Fatalf("no session: %v\n%s", err, j.log(t))
	}
	must(t, p.Process.Signal(syscall.SIGTERM))
	if got := p.wait(t); got != 0 {
		t.Errorf("exit code %d, want 0\n%s", got, j.log(t))
	}
	if out := <-told; !strings.Contains(out, "The server is stopping.") {
		t.Errorf("the user was told %q", out)
	}
}

// initJob is a customize job whose agent is process 1 of a process-id namespace,
// as in a container, with the file systems of this machine.
type initJob struct {
	client
	parent, config, port string
}

// newInitJob makes an image root and says ready.
func newInitJob(t *testing.T) initJob {
	t.Helper()
	needRoot(t, "busybox", "ssh", "mount")
	folder := t.TempDir()
	in := func(name string) string { return filepath.Join(folder, name) }
	port, err := freePort()
	must(t, err)
	must(t, writeKeyPair(in("user")))
	must(t, writeKeyPair(in("host")))
	must(t, os.WriteFile(in("sshd_config"), []byte(sidecarConfig(port, in("user.pub"), in("host"))), 0o600))
	j := initJob{newClient(t, in("user"), port), in("image"), in("sshd_config"), port}
	must(t, miniRootFS(j.in("image-root")))
	must(t, os.WriteFile(j.in("ready"), nil, 0o644))
	return j
}

// in is a path in the image root's parent.
func (j initJob) in(name string) string { return filepath.Join(j.parent, name) }

// log is what the latest start has logged.
func (j initJob) log(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(j.parent + ".log")
	must(t, err)
	return string(text)
}

func (j initJob) waitServing(t *testing.T) {
	t.Helper()
	if err := poll(func() bool { return accepts("127.0.0.1:" + j.port) }); err != nil {
		t.Fatalf("no SSH server: %v\n%s", err, j.log(t))
	}
}

// processOne is an agent as process 1.
type processOne struct {
	*exec.Cmd // the process's id is the one that this machine knows it by
	ended     chan struct{}
}

// enter makes process 1 of what is executed after it.
const enter = `mount --make-rprivate / && mount -t proc proc /proc && exec "$@"`

func (j initJob) start(t *testing.T, env []string, args ...string) processOne {
	t.Helper()
	log, err := os.Create(j.parent + ".log")
	must(t, err)
	defer log.Close()
	p := processOne{exec.Command("sh", append([]string{"-c", enter, "sh", buildenv(t)}, args...)...), make(chan struct{})}
	p.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	p.Stderr = log
	p.Env = append(os.Environ(), "IMS_ACTION=customize", "IMAGE_ROOT_PARENT="+j.parent,
		"SSHD_OPTIONS=-f "+j.config, "GOCOVERDIR="+os.Getenv(coverFolder))
	p.Env = append(p.Env, env...)
	must(t, p.Start())
	go func() {
		p.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.Process.Kill() // and with process 1 everything in its namespace
		<-p.ended
	})
	return p
}

// wait is the exit code.
func (p processOne) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		t.Fatalf("process 1 does not end within %v", patience)
	}
	return p.ProcessState.ExitCode()
}

var parentLine = regexp.MustCompile(`(?m)^PPid:\s*(\d+)$`)

// children are the processes whose parent is p, zombies included.
func (p processOne) children(t *testing.T) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/status")
	must(t, err)
	var children []int
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended meanwhile
		}
		if parent := parentLine.FindSubmatch(text); parent == nil || string(parent[1]) != fmt.Sprint(p.Process.Pid) {
			continue
		}
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		must(t, err)
		children = append(children, child)
	}
	return children
}
