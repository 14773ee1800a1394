package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// workAnsible runs a playbook with Ansible's own options for SSH: compression
// is asked for, and one connection serves the whole play. An image root takes
// the package, and only once; elsewhere it is unpacked.
func workAnsible(install bool, options ...string) func(t *testing.T, v *visit) {
	return func(t *testing.T, v *visit) {
		install := install && v.jailed()
		sockets := shortFolder(t)
		t.Cleanup(func() { endMasters(t, v, sockets) })
		program := append([]string{"env"}, options...)
		program = append(program,
			"ANSIBLE_SSH_COMMON_ARGS=-F "+v.config,
			"ANSIBLE_SSH_CONTROL_PATH_DIR="+sockets,
			"ANSIBLE_REMOTE_TMP="+v.at("tmp"),
			"ANSIBLE_LOCAL_TEMP="+v.own("tmp"),
			"ANSIBLE_NOCOLOR=1",
			"ansible-playbook", "-i", "job,",
			"-e", "ansible_python_interpreter="+python,
			"-e", "folder="+v.folder+" tree="+v.tree+" package="+samplePackage(t),
			"-e", fmt.Sprintf(`{"install": %t}`, install),
			"testdata/clients/playbook.yml")
		v.use(t, nil, program...)
		tool(t, "cmp", filepath.Join(v.tree, "large"), v.here(v.at("copied")))
		wantFile(t, v.here(v.at("greeting")), "Hello from job,\nthe answer is 42\n", 0o600)
		wantFile(t, v.here(v.at("made/link")), "Hello from job,\nthe answer is 42\n", 0o600)
		if install {
			wantFile(t, v.here("/usr/bin/sample"), "#!/bin/sh\necho helped\n", 0o755|os.ModeSetuid)
		} else {
			wantFile(t, v.here(v.at("installed/usr/bin/sample-helper")), "#!/bin/sh\necho helped\n", 0o755)
		}
	}
}

// endMasters ends the clients that Ansible has left behind for its next run.
func endMasters(t *testing.T, v *visit, folder string) {
	sockets, err := filepath.Glob(filepath.Join(folder, "*"))
	must(t, err)
	if len(sockets) == 0 {
		t.Error("Ansible has left no connection for its next run")
	}
	for _, socket := range sockets {
		exit := exec.Command("ssh", "-F", v.config, "-S", socket, "-O", "exit", "job")
		if out, err := exit.CombinedOutput(); err != nil && !strings.Contains(string(out), "No such file") {
			t.Errorf("%s: %v\n%s", exit, err, out)
		}
	}
}
