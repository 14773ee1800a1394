package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"
)

// hostJob is a standalone job on this machine: one process that serves a user
// in a jail and then packages the root into a store.
type hostJob struct {
	client
	port, key     string // what another client than OpenSSH's needs to know
	hostKey       string // a file
	parent, store string
	stdout, log   string // files
	exited        chan error
}

// prepareHostJob makes the parent folder of a job from source; the root is its image-root.
func prepareHostJob(t *testing.T, source string) (parent string) {
	t.Helper()
	parent, err := os.MkdirTemp(workFolder(t), "image-")
	must(t, err)
	tool(t, buildenv(t), "prepare", parent, source)
	return parent
}

// startHostJob begins a job on a prepared parent, whose users are jailed, and
// returns once they can log in.
func startHostJob(t *testing.T, parent string) *hostJob {
	t.Helper()
	return serveHostJob(t, exec.Command(buildenv(t), "run", parent), parent)
}

// serveHostJob does so with a process of its own, and more variables.
func serveHostJob(t *testing.T, process *exec.Cmd, parent string, more ...string) *hostJob {
	t.Helper()
	folder := t.TempDir()
	in := func(name string) string { return filepath.Join(folder, name) }
	port, err := freePort()
	must(t, err)
	must(t, writeKeyPair(in("user")))
	must(t, writeKeyPair(in("host")))
	must(t, os.WriteFile(in("sshd_config"), []byte(sidecarConfig(port, in("user.pub"), in("host"))), 0o600))
	j := &hostJob{client: newClient(t, in("user"), port), port: port, key: in("user"), hostKey: in("host"),
		parent: parent, store: in("store"), stdout: in("stdout"), log: in("log"), exited: make(chan error, 1)}
	j.begin(t, process, append([]string{
		"IMS_ACTION=customize", "SSH_JAIL=True", "BUILDENV_ROLE=standalone",
		"IMS_JOB_ID=6a1f2c3e-0000-4000-8000-5e55104e0002", "IMAGE_ROOT_ARCHIVE_NAME=debian",
		"ARTIFACT_STORE=file://" + j.store, "SSHD_OPTIONS=-f " + in("sshd_config"),
	}, more...))
	if err := poll(func() bool { return accepts("127.0.0.1:"+port) || len(j.exited) > 0 }); err != nil || len(j.exited) > 0 {
		t.Fatalf("no SSH server: %v\n%s", err, j.read(j.log))
	}
	return j
}

// begin starts the process. It is asked to end with the test, and awaited.
func (j *hostJob) begin(t *testing.T, process *exec.Cmd, env []string) {
	t.Helper()
	stdout, err := os.Create(j.stdout)
	must(t, err)
	defer stdout.Close()
	log, err := os.Create(j.log)
	must(t, err)
	defer log.Close()
	process.Env = append(append(os.Environ(), "GOCOVERDIR="+os.Getenv(coverFolder)), env...)
	process.Stdout, process.Stderr = stdout, log
	must(t, process.Start())
	ended := make(chan struct{})
	go func() {
		j.exited <- process.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		if err := process.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		<-ended
	})
}

// packagingTime is how long a job may take from its verdict to its image: most
// of it is compressing.
const packagingTime = 2 * time.Minute

// finish waits for the end of a job that was marked complete and returns the
// folder of its image in the store.
func (j *hostJob) finish(t *testing.T) (image string) {
	t.Helper()
	select {
	case err := <-j.exited:
		if err != nil {
			t.Fatalf("the job: %v\n%s", err, j.read(j.log))
		}
	case <-time.After(packagingTime):
		t.Fatalf("the job has not ended after %s\n%s", packagingTime, j.read(j.log))
	}
	id := regexp.MustCompile(`(?m)^image (\S+)$`).FindStringSubmatch(j.read(j.stdout))
	if id == nil {
		t.Fatalf("the job names no image on stdout: %q", j.read(j.stdout))
	}
	return filepath.Join(j.store, "boot-images", id[1])
}

// read is a file's content, or why there is none: it is for messages.
func (j *hostJob) read(file string) string {
	content, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return string(content)
}
