package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// The latency benchmarks time what a person or a sidecar waits for, with our
// binary and with the yardstick of testdata/polling.sh in the same run. One
// iteration takes all samples; the time of an iteration itself says nothing.
//
// Ours are taken one after another. A sample of the yardstick mostly sleeps, so
// that those overlap, without two of them at work at the same time.
const (
	ourSamples     = 100
	pollingSamples = 20
	pollingPeriod  = 5 * time.Second // as in polling.sh
	pollingPace    = time.Second     // more than a poll and what follows it take
)

// BenchmarkLatencyReadyToBanner: from the creation of ready until a client has
// read the first byte of the server's banner.
func BenchmarkLatencyReadyToBanner(b *testing.B) {
	present := b.TempDir()
	b.Run("host-keys-present", func(b *testing.B) {
		makeHostKeys(b, present)
		compareWithPolling(b, func(p program, age time.Duration) (time.Duration, error) {
			return readyToBanner(p, b.TempDir(), present, age)
		})
	})
	b.Run("host-keys-missing", func(b *testing.B) {
		compareWithPolling(b, func(p program, age time.Duration) (time.Duration, error) {
			return readyToBanner(p, b.TempDir(), b.TempDir(), age)
		})
	})
}

// makeHostKeys makes all kinds of host keys, so that neither side has any left to make.
func makeHostKeys(b testing.TB, folder string) {
	b.Helper()
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		name := filepath.Join(folder, "ssh_host_"+kind+"_key")
		if err := os.RemoveAll(name); err != nil {
			b.Fatal(err)
		}
		if out, err := exec.Command("ssh-keygen", "-q", "-N", "", "-t", kind, "-f", name).CombinedOutput(); err != nil {
			b.Fatalf("ssh-keygen: %v\n%s", err, out)
		}
	}
}

// readyToBanner is one sample. age is how long the program has been waiting
// when the marker comes.
func readyToBanner(p program, folder, hostKeys string, age time.Duration) (time.Duration, error) {
	j, err := startJob(p, folder, hostKeys)
	if err != nil {
		return 0, err
	}
	defer j.stop()
	if err := j.waitsFor("the marker ready"); err != nil {
		return 0, err
	}
	time.Sleep(age)
	created, err := j.mark("ready")
	if err != nil {
		return 0, err
	}
	greeted, err := j.until("a banner", j.greets)
	return greeted.Sub(created), err
}

// BenchmarkLatencyCompleteToExiting: from the creation of complete until exiting is there.
func BenchmarkLatencyCompleteToExiting(b *testing.B) {
	hostKeys := b.TempDir()
	for _, session := range []struct {
		name string
		idle bool
	}{
		{"nobody-logged-in", false},
		{"idle-terminal", true},
	} {
		b.Run(session.name, func(b *testing.B) {
			makeHostKeys(b, hostKeys)
			compareWithPolling(b, func(p program, age time.Duration) (time.Duration, error) {
				return completeToExiting(p, b.TempDir(), hostKeys, session.idle, age)
			})
		})
	}
}

// completeToExiting is one sample, with a terminal open if idle says so.
func completeToExiting(p program, folder, hostKeys string, idle bool, age time.Duration) (time.Duration, error) {
	j, err := startServing(p, folder, hostKeys)
	if err != nil {
		return 0, err
	}
	defer j.stop()
	due := time.Now().Add(age)
	if idle {
		leave, err := j.openTerminal()
		if err != nil {
			return 0, err
		}
		defer leave()
	}
	time.Sleep(time.Until(due))
	created, err := j.mark("complete")
	if err != nil {
		return 0, err
	}
	exiting, err := j.until("exiting", func() bool { return j.has("exiting") })
	return exiting.Sub(created), err
}

// BenchmarkLatencyLogin: a real client connects, runs true and leaves. Nothing
// is polled for here, so that the yardstick is OpenSSH's server alone.
func BenchmarkLatencyLogin(b *testing.B) {
	both := serveBoth(b)
	var took [2][]time.Duration
	for b.Loop() {
		for range ourSamples {
			for i, j := range both {
				d, err := j.login()
				if err != nil {
					b.Fatal(err)
				}
				took[i] = append(took[i], d)
			}
		}
	}
	report(b, "openssh", took[0], took[1])
}

// programs are ours and the yardstick; without what they need the benchmark is skipped.
func programs(b *testing.B) (ours, polling program) {
	b.Helper()
	if os.Geteuid() != 0 {
		b.Skip("a login as root needs root")
	}
	for _, tool := range []string{"ssh", "ssh-keygen", "/usr/sbin/sshd", "unshare"} {
		if _, err := exec.LookPath(tool); err != nil {
			b.Skipf("%v; try: tools/setup e2e", err)
		}
	}
	// OpenSSH's server is not there without the folder that a service manager makes for it.
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		b.Fatal(err)
	}
	binary, err := builtBinary()
	if err != nil {
		b.Fatal(err)
	}
	return program{binary}, program{"sh", "testdata/polling.sh"}
}

// compareWithPolling takes all samples of both sides and reports them.
func compareWithPolling(b *testing.B, sample func(p program, age time.Duration) (time.Duration, error)) {
	b.Helper()
	ours, polling := programs(b)
	var took, yardstick []time.Duration
	for b.Loop() {
		for range ourSamples {
			d, err := sample(ours, 0)
			if err != nil {
				b.Fatal(err)
			}
			took = append(took, d)
		}
		more, err := spread(func(age time.Duration) (time.Duration, error) { return sample(polling, age) })
		if err != nil {
			b.Fatal(err)
		}
		yardstick = append(yardstick, more...)
	}
	report(b, "polling", took, yardstick)
}

// spread takes the samples of the yardstick. Each begins a second after the one
// before, is polled in vain once, and gets its marker so that the next poll
// comes at another moment of the period: none, a twentieth of it later, and so on.
func spread(sample func(age time.Duration) (time.Duration, error)) ([]time.Duration, error) {
	took := make([]time.Duration, pollingSamples)
	var all errgroup.Group
	for i := range took {
		all.Go(func() (err error) {
			time.Sleep(time.Duration(i) * pollingPace)
			took[i], err = sample(2*pollingPeriod - time.Duration(i)*pollingPeriod/pollingSamples)
			return err
		})
	}
	return took, all.Wait()
}

// report prints both sides and how many times longer the yardstick takes.
func report(b *testing.B, yardstick string, ours, theirs []time.Duration) {
	b.Helper()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(milliseconds(ours, 50), "p50-ms")
	b.ReportMetric(milliseconds(ours, 99), "p99-ms")
	b.ReportMetric(milliseconds(theirs, 50), yardstick+"-p50-ms")
	b.ReportMetric(milliseconds(theirs, 99), yardstick+"-p99-ms")
	b.ReportMetric(milliseconds(theirs, 50)/milliseconds(ours, 50), "x-"+yardstick)
}

// milliseconds is the percentile of samples, by nearest rank: one of them, not a value between.
func milliseconds(samples []time.Duration, percent int) float64 {
	sorted := slices.Sorted(slices.Values(samples))
	rank := (len(sorted)*percent + 99) / 100
	return float64(sorted[rank-1]) / float64(time.Millisecond)
}
