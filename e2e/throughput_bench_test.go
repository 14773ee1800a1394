package e2e

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// The throughput benchmarks move the same file with the same clients through
// our server and OpenSSH's, in turn, so that both meet the same machine.
// BENCH_MIB is for a quick look: the file's size instead of a GiB.
const (
	transferMiB    = 1024
	transferRounds = 5
)

// transfer is one way to move a file, with a client as its user calls it. The
// client reads the file input, if there is any.
type transfer struct {
	name  string
	input func(f transferFiles) string
	lands bool // the bytes are in f.target afterwards
	args  func(f transferFiles) []string
}

// transferFiles are what is moved, where it goes, and a batch of sftp's that
// does so. They are in memory: a disk is not to be measured. giver and taker are
// servers behind a tunnel that send the source, and read all.
type transferFiles struct{ source, target, put, giver, taker string }

var transfers = []transfer{
	{"sftp-get", nothing, true, func(f transferFiles) []string { return []string{"sftp", "-q", "job:" + f.source, f.target} }},
	{"sftp-put", nothing, true, func(f transferFiles) []string { return []string{"sftp", "-q", "-b", f.put, "job"} }},
	{"scp-get", nothing, true, func(f transferFiles) []string { return []string{"scp", "-q", "job:" + f.source, f.target} }},
	{"scp-put", nothing, true, func(f transferFiles) []string { return []string{"scp", "-q", f.source, "job:" + f.target} }},
	{"exec-down", nothing, false, func(f transferFiles) []string { return []string{"ssh", "job", "cat " + f.source} }},
	{"exec-up", source, false, func(f transferFiles) []string { return []string{"ssh", "job", "cat >/dev/null"} }},
	{"tty-down", nothing, false, func(f transferFiles) []string { return []string{"ssh", "-tt", "job", "stty -opost; cat " + f.source} }},
	{"tunnel-down", nothing, false, func(f transferFiles) []string { return []string{"ssh", "-W", f.giver, "job"} }},
	{"tunnel-up", source, false, func(f transferFiles) []string { return []string{"ssh", "-W", f.taker, "job"} }},
	{"rsync-get", nothing, true, func(f transferFiles) []string { return []string{"rsync", "--whole-file", "job:" + f.source, f.target} }},
	{"rsync-put", nothing, true, func(f transferFiles) []string { return []string{"rsync", "--whole-file", f.source, "job:" + f.target} }},
}

func nothing(transferFiles) string  { return os.DevNull }
func source(f transferFiles) string { return f.source }

// BenchmarkThroughput: a GiB there or back. The ciphers are what client and
// server agree on.
func BenchmarkThroughput(b *testing.B) {
	both := serveBoth(b)
	size := transferSize(b)
	files := makeTransferFiles(b, size)
	for _, t := range transfers {
		b.Run(t.name, func(b *testing.B) {
			if _, err := exec.LookPath(t.args(files)[0]); err != nil {
				b.Skipf("%v; try: tools/setup e2e", err)
			}
			var took [2][]time.Duration
			for b.Loop() {
				for range transferRounds {
					for i, j := range both {
						took[i] = append(took[i], move(b, j, t, files))
					}
				}
			}
			reportThroughput(b, rate(size, took[0]), rate(size, took[1]))
		})
	}
}

// transferSize is in bytes.
func transferSize(b *testing.B) int64 {
	b.Helper()
	given := os.Getenv("BENCH_MIB")
	if given == "" {
		return transferMiB << 20
	}
	mib, err := strconv.Atoi(given)
	if err != nil {
		b.Fatalf("BENCH_MIB: %v", err)
	}
	return int64(mib) << 20
}

// makeTransferFiles writes what is moved, of random bytes: nothing on the way
// can make them smaller.
func makeTransferFiles(b *testing.B, size int64) transferFiles {
	b.Helper()
	folder, err := os.MkdirTemp("/dev/shm", "buildenv-bench-")
	if err != nil {
		b.Skipf("needs a file system in memory: %v", err)
	}
	b.Cleanup(func() { os.RemoveAll(folder) })
	at := func(name string) string { return filepath.Join(folder, name) }
	f := transferFiles{source: at("source"), target: at("target"), put: at("put")}
	f.giver = serveStream(b, func(c net.Conn) {
		if source, err := os.Open(f.source); err == nil {
			defer source.Close()
			io.Copy(c, source)
		}
	})
	f.taker = serveStream(b, func(c net.Conn) { io.Copy(io.Discard, c) })
	err = os.WriteFile(f.put, fmt.Appendf(nil, "put %s %s\n", f.source, f.target), 0o600)
	if err == nil {
		err = writeRandom(f.source, size)
	}
	if err != nil {
		b.Fatal(err)
	}
	return f
}

// serveStream is a server that closes a connection when it has been served, and
// gives its address.
func serveStream(b *testing.B, serve func(net.Conn)) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return l.Addr().String()
}

// writeRandom makes a file of random bytes.
func writeRandom(name string, size int64) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := io.CopyN(file, rand.Reader, size); err != nil {
		return err
	}
	return file.Close()
}

// move times one transfer, to a place where nothing is yet.
func move(b *testing.B, j *job, t transfer, f transferFiles) time.Duration {
	b.Helper()
	if err := os.RemoveAll(f.target); err != nil {
		b.Fatal(err)
	}
	input, err := os.Open(t.input(f))
	if err != nil {
		b.Fatal(err)
	}
	defer input.Close()
	var complaints bytes.Buffer
	client := j.client(t.args(f))
	client.Stdin, client.Stderr = input, &complaints
	start := time.Now()
	err = client.Run()
	took := time.Since(start)
	if err != nil {
		b.Fatalf("%s: %v\n%s", client, err, complaints.Bytes())
	}
	if t.lands {
		wantMoved(b, f)
	}
	return took
}

func wantMoved(b *testing.B, f transferFiles) {
	b.Helper()
	if out, err := exec.Command("cmp", f.source, f.target).CombinedOutput(); err != nil {
		b.Fatalf("cmp: %v\n%s", err, out)
	}
}

// client is a program that takes ssh's options, or one that runs ssh.
func (j *job) client(args []string) *exec.Cmd {
	if args[0] == "rsync" {
		return exec.Command("rsync", append([]string{"-e", "ssh -F " + j.file("client_config")}, args[1:]...)...)
	}
	return exec.Command(args[0], append([]string{"-F", j.file("client_config")}, args[1:]...)...)
}

// reportThroughput prints both rates and how many times faster ours is.
func reportThroughput(b *testing.B, ours, theirs float64) {
	b.Helper()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ours, "MiB/s")
	b.ReportMetric(theirs, "openssh-MiB/s")
	b.ReportMetric(ours/theirs, "x-openssh")
}

// rate is the median in MiB/s.
func rate(size int64, took []time.Duration) float64 {
	median := slices.Sorted(slices.Values(took))[len(took)/2]
	return float64(size) / (1 << 20) / median.Seconds()
}
