package session

import (
	"fmt"
	"io"
	"runtime"
	"testing"
)

// BenchmarkExecStreams moves data through a command, each way and over a terminal.
// The client is Go's, in the same process.
func BenchmarkExecStreams(b *testing.B) {
	const size = 64 << 20
	for name, c := range map[string]struct {
		command string
		tty     bool
		up      bool
	}{
		"down":     {command: fmt.Sprintf("head -c %d /dev/zero", size)},
		"up":       {command: "cat >/dev/null", up: true},
		"terminal": {command: fmt.Sprintf("stty -opost; head -c %d /dev/zero", size), tty: true},
	} {
		b.Run(name, func(b *testing.B) {
			client := dial(b, newLogin(b))
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				r := open(b, client)
				if c.tty {
					r.ask(b, true, "pty-req", ptyRequest{Term: "dumb"})
				}
				r.ask(b, true, "exec", text{c.command})
				if c.up {
					io.CopyN(r, zeros{}, size)
				}
				r.CloseWrite()
				n, err := io.Copy(io.Discard, r)
				if err != nil || !c.up && n != size {
					b.Fatalf("%d bytes, %v", n, err)
				}
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// BenchmarkIdleSessions says what a hundred waiting commands cost in memory.
func BenchmarkIdleSessions(b *testing.B) {
	const count = 100
	for b.Loop() {
		l := newLogin(b)
		l.Policy.MaxSessions = count
		client := dial(b, l)
		before := inUse()
		for range count {
			r := open(b, client)
			r.ask(b, true, "exec", text{"echo x; exec cat"})
			io.ReadFull(r, make([]byte, 1))
		}
		b.ReportMetric(float64(inUse()-before)/count/1024, "KiB/session")
		client.Close()
	}
}

func inUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
