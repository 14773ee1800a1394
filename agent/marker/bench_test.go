package marker

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkWait times a marker from its creation to the return of Wait, beside
// the yardstick: to the return of a bare read(2) from inotify(7), below which
// nothing that is told by the kernel can be.
func BenchmarkWait(b *testing.B) {
	b.Run("ours", func(b *testing.B) {
		dir := lookedAt{Directory(b.TempDir()), make(chan struct{}, 1)}
		noticed := make(chan error)
		for b.Loop() {
			b.StopTimer()
			go func() {
				_, err := Wait(context.Background(), dir, Complete)
				noticed <- err
			}()
			<-dir.looked // with the watch in place
			b.StartTimer()
			createAndAwait(b, dir.Directory, noticed)
		}
	})
	b.Run("inotify", func(b *testing.B) {
		dir := Directory(b.TempDir())
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
		if err != nil {
			b.Fatal(err)
		}
		defer unix.Close(fd)
		if _, err := unix.InotifyAddWatch(fd, dir.Path(), unix.IN_CREATE); err != nil {
			b.Fatal(err)
		}
		noticed := make(chan error)
		for b.Loop() {
			b.StopTimer()
			go func() {
				_, err := unix.Read(fd, make([]byte, unix.SizeofInotifyEvent+unix.NAME_MAX+1))
				noticed <- err
			}()
			b.StartTimer()
			createAndAwait(b, dir, noticed)
		}
	})
}

// createAndAwait is what is timed. The marker is gone after it.
func createAndAwait(b *testing.B, dir Directory, noticed <-chan error) {
	b.Helper()
	if err := dir.Create(string(Complete)); err != nil {
		b.Fatal(err)
	}
	if err := <-noticed; err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	if err := Remove(dir, Complete); err != nil {
		b.Fatal(err)
	}
	b.StartTimer()
}

// lookedAt tells when it has been looked at.
type lookedAt struct {
	Directory
	looked chan struct{}
}

func (l lookedAt) Find(name string) (time.Time, bool) {
	select {
	case l.looked <- struct{}{}:
	default:
	}
	return l.Directory.Find(name)
}
