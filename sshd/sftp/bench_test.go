package sftp

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The benchmarks move a file over a pipe with the requests in flight that
// OpenSSH's client keeps, with this server and with OpenSSH's as the yardstick.
const (
	benchSize     = 64 << 20
	benchInFlight = 64
)

func BenchmarkGet(b *testing.B) {
	onBothServers(b, func(c *client) {
		c.open("f", fxpOpen, "source", openRead, attrs{})
		c.pipelined((benchSize+maxData-1)/maxData, func(chunk int) {
			c.send(fxpRead, ref("f"), uint64(chunk*maxData), maxData)
		})
	})
}

func BenchmarkPut(b *testing.B) {
	data := strings.Repeat("x", maxData)
	onBothServers(b, func(c *client) {
		c.open("f", fxpOpen, "target", openWrite|openCreate|openTruncate, attrs{})
		c.pipelined(benchSize/maxData, func(chunk int) {
			c.send(fxpWrite, ref("f"), uint64(chunk*maxData), data)
		})
	})
}

func onBothServers(b *testing.B, transfer func(c *client)) {
	for _, server := range []struct {
		name  string
		start func(b *testing.B, dir string) *client
	}{
		{"ours", func(b *testing.B, dir string) *client { return startServe(b, enter(b, ""), Options{Home: dir}) }},
		{"openssh", func(b *testing.B, dir string) *client { return startOpenSSH(b, dir) }},
	} {
		b.Run(server.name, func(b *testing.B) {
			dir := b.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "source"), make([]byte, benchSize), 0o600); err != nil {
				b.Fatal(err)
			}
			c := server.start(b, dir)
			b.SetBytes(benchSize)
			b.ReportAllocs()
			for b.Loop() {
				transfer(c)
				c.call(fxpClose, ref("f"))
			}
		})
	}
}

// pipelined sends n requests and takes their replies, benchInFlight at once.
func (c *client) pipelined(n int, send func(i int)) {
	slots := make(chan struct{}, benchInFlight)
	go func() {
		for i := range n {
			slots <- struct{}{}
			send(i)
		}
	}()
	for range n {
		p, err := readPacket(c.r)
		if err != nil {
			c.t.Error(err)
			return
		}
		p.free()
		<-slots
	}
}
