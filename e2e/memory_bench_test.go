package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// idleSessions is how many users are logged in and think.
const idleSessions = 100

// settling is how long they have been idle: what a login has used is given back by then.
const settling = 5 * time.Second

// BenchmarkIdleSessions: the resident memory of a server with many idle
// sessions, a connection for each; what runs in the sessions does not count.
// The proportional set size shares a page out among the processes that have
// it, which is fair to a server that has a process for each connection.
func BenchmarkIdleSessions(b *testing.B) {
	both := serveBoth(b)
	var resident, proportional [2]float64
	for b.Loop() {
		for i, j := range both {
			leave, err := j.logIn(idleSessions)
			if err == nil {
				time.Sleep(settling)
				resident[i], proportional[i], err = j.memory()
			}
			leave()
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(resident[0], "RSS-MiB")
	b.ReportMetric(proportional[0], "PSS-MiB")
	b.ReportMetric(resident[1], "openssh-RSS-MiB")
	b.ReportMetric(proportional[1], "openssh-PSS-MiB")
	b.ReportMetric(resident[1]/resident[0], "x-openssh-RSS")
	b.ReportMetric(proportional[1]/proportional[0], "x-openssh-PSS")
}

// logIn opens n connections with a session each, which waits for input.
func (j *job) logIn(n int) (leave func(), err error) {
	var clients []*ssh.Client
	leave = func() {
		for _, c := range clients {
			c.Close()
		}
	}
	key, err := os.ReadFile(j.file("client_key"))
	if err != nil {
		return leave, err
	}
	signer, err := ssh.ParsePrivateKey(key)
	if err != nil {
		return leave, err
	}
	config := &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, Timeout: patience,
		HostKeyCallback: func(string, net.Addr, ssh.PublicKey) error { return nil },
	}
	for range n {
		c, err := ssh.Dial("tcp", j.address, config)
		if err != nil {
			return leave, err
		}
		clients = append(clients, c)
		s, err := c.NewSession()
		if err == nil {
			_, err = s.StdinPipe() // never ends
		}
		if err == nil {
			err = s.Start("cat")
		}
		if err != nil {
			return leave, err
		}
	}
	return leave, nil
}

// memory sums up the server's processes, in MiB: those of its name in its mount namespace.
func (j *job) memory() (resident, proportional float64, err error) {
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", j.command.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, 0, err
	}
	for _, p := range processes {
		namespace, _ := os.Readlink(p + "/ns/mnt")
		name, _ := os.ReadFile(p + "/comm")
		if namespace == own && (string(name) == "sshd\n" || strings.HasPrefix(string(name), "buildenv")) {
			sizes, _ := os.ReadFile(p + "/smaps_rollup") // it may have ended
			resident += field(sizes, "Rss:") / 1024
			proportional += field(sizes, "Pss:") / 1024
		}
	}
	return resident, proportional, nil
}

// field is a value of a file in /proc, in its own unit.
func field(text []byte, name string) (value float64) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), name); ok {
			fmt.Sscan(rest, &value)
		}
	}
	return value
}
