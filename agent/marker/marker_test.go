package marker

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestOnlyARegularFileIsAMarker(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"directory":      func(p string) error { return os.Mkdir(p, 0o755) },
		"link to a file": func(p string) error { return os.Symlink("/etc/passwd", p) },
		"dangling link":  func(p string) error { return os.Symlink("nowhere", p) },
		"fifo":           func(p string) error { return syscall.Mkfifo(p, 0o644) },
		"nothing":        func(string) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := put(filepath.Join(dir, "complete")); err != nil {
				t.Fatal(err)
			}
			if Exists(Directory(dir), Complete) {
				t.Error("counts as a marker")
			}
		})
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "complete"), []byte("text is no harm"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !Exists(Directory(dir), Complete) {
		t.Error("a regular file does not count")
	}
}

func TestCreateReplacesWhatIsInTheWay(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "victim")
	dir := Directory(t.TempDir())
	if err := os.Symlink(outside, filepath.Join(dir.Path(), "exiting")); err != nil {
		t.Fatal(err)
	}
	if err := dir.Create("exiting"); err != nil {
		t.Fatal(err)
	}
	if !Exists(dir, Exiting) {
		t.Error("no marker was made")
	}
	if _, err := os.Lstat(outside); err == nil {
		t.Error("the link was followed")
	}
}

func TestCreateRenamesADirectoryInTheWay(t *testing.T) {
	dir := Directory(t.TempDir())
	if err := os.MkdirAll(filepath.Join(dir.Path(), "failed", "work"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := dir.Create("failed"); err != nil {
		t.Fatal(err)
	}
	if !Exists(dir, Failed) {
		t.Error("no marker was made")
	}
	if kept, _ := filepath.Glob(filepath.Join(dir.Path(), "failed-*", "work")); len(kept) != 1 {
		t.Error("the directory is lost")
	}
}

func TestCreateTouchesAMarkerThatIsThere(t *testing.T) {
	dir := Directory(t.TempDir())
	path := filepath.Join(dir.Path(), "ready")
	if err := dir.Create("ready"); err != nil {
		t.Fatal(err)
	}
	old := time.Unix(1000, 0)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	if err := dir.Create("ready"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || !info.ModTime().After(old) {
		t.Errorf("time is %v (%v), want a new one", info.ModTime(), err)
	}
}

func TestWaitReturnsAtOnceInTheOrderGiven(t *testing.T) {
	dir := Directory(t.TempDir())
	for _, name := range []Name{Complete, Failed} {
		if err := dir.Create(string(name)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Wait(t.Context(), dir, Failed, Complete)
	if got != Failed || err != nil {
		t.Errorf("got %q, %v; want failed", got, err)
	}
}

// The moment between the creation of a marker and the return of Wait is what
// users feel; the poll beside inotify would show as up to a second.
func TestWaitIsDrivenByEvents(t *testing.T) {
	dir := Directory(t.TempDir())
	found := make(chan time.Time)
	for round := range 5 {
		go func() {
			if _, err := Wait(context.Background(), dir, Complete); err == nil {
				found <- time.Now()
			}
		}()
		created := time.Now()
		if err := dir.Create("complete"); err != nil {
			t.Fatal(err)
		}
		if late := (<-found).Sub(created); late > pollInterval/2 {
			t.Errorf("round %d: noticed after %v", round, late)
		}
		if err := Remove(dir, Complete); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWaitFollowsADirectoryThatIsReplaced(t *testing.T) {
	parent := t.TempDir()
	dir := Directory(filepath.Join(parent, "tmp"))
	found := make(chan error)
	go func() {
		_, err := Wait(context.Background(), dir, Complete)
		found <- err
	}()
	for _, do := range []func() error{
		func() error { return os.Mkdir(dir.Path(), 0o755) },
		func() error { return os.Rename(dir.Path(), dir.Path()+".old") },
		func() error { return os.Mkdir(dir.Path(), 0o755) },
		func() error { return dir.Create("complete") },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-found; err != nil {
		t.Error(err)
	}
}

func TestWaitEndsWithTheContextsCause(t *testing.T) {
	cause := errors.New("asked to stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, err := Wait(ctx, Directory(t.TempDir()), Ready); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}

// silent is a file system that delivers no events.
type silent struct{ Directory }

func (silent) Path() string { return "/nonexistent" }

func TestWaitPollsWithoutEvents(t *testing.T) {
	dir := silent{Directory(t.TempDir())}
	found := make(chan error)
	go func() {
		_, err := Wait(context.Background(), dir, Complete)
		found <- err
	}()
	if err := dir.Create("complete"); err != nil {
		t.Fatal(err)
	}
	if err := <-found; err != nil {
		t.Error(err)
	}
}
