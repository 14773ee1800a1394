package agent

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"buildenv/agent/marker"
)

// fixture is a job whose outside world records what is asked of it.
type fixture struct {
	t   *testing.T
	dir string

	mu    sync.Mutex
	trace []string
}

func newFixture(t *testing.T) *fixture { return &fixture{t: t, dir: t.TempDir()} }

func (f *fixture) note(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trace = append(f.trace, what)
}

func (f *fixture) Start(context.Context) error { f.note("listen"); return nil }

func (f *fixture) Shutdown(context.Context, string) error { f.note("shutdown"); return nil }

func (f *fixture) step(name string) Step {
	return Step{
		Name: name,
		Do:   func(context.Context) error { f.note(name); return nil },
		Undo: func() error { f.note("undo " + name); return nil },
	}
}

func (f *fixture) environment() *Environment {
	f.t.Helper()
	state, err := LoadState(f.dir)
	if err != nil {
		f.t.Fatal(err)
	}
	place := marker.Directory(f.dir)
	return &Environment{
		Marks:  Marks{Parent: place, User: place},
		State:  state,
		Steps:  []Step{f.step("jail"), f.step("mounts")},
		Server: f,
		Log:    slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

func (f *fixture) touch(names ...marker.Name) {
	f.t.Helper()
	for _, name := range names {
		if err := marker.Directory(f.dir).Create(string(name)); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f *fixture) wantMarkers(want ...string) {
	f.t.Helper()
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		f.t.Fatal(err)
	}
	var got []string
	for _, entry := range entries {
		if entry.Name() != StateFile {
			got = append(got, entry.Name())
		}
	}
	if !slices.Equal(got, want) {
		f.t.Errorf("markers: %v, want %v", got, want)
	}
}

func (f *fixture) wantTrace(want ...string) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Equal(f.trace, want) {
		f.t.Errorf("trace:\n got %q\nwant %q", f.trace, want)
	}
	f.trace = nil
}

func (f *fixture) run(e *Environment, want marker.Name) {
	f.t.Helper()
	verdict, err := e.Run(f.t.Context())
	if verdict != want || err != nil {
		f.t.Errorf("verdict %q, error %v; want %q", verdict, err, want)
	}
}

func TestSessionRunsInTheOrderOfTheContract(t *testing.T) {
	f := newFixture(t)
	e := f.environment()
	e.Serving = func() { f.note("serving") }
	e.Script = func(context.Context) error { f.note("script"); f.touch(marker.Complete); return nil }
	f.touch(marker.Ready)
	f.run(e, marker.Complete)
	f.wantTrace("undo jail", "jail", "undo mounts", "mounts", "listen", "serving", "script",
		"shutdown", "undo mounts", "undo jail")
	f.wantMarkers("exiting", "ready")
}

func TestFailedWinsAndStays(t *testing.T) {
	f := newFixture(t)
	f.touch(marker.Ready, marker.Complete, marker.Failed)
	f.run(f.environment(), marker.Failed)
	f.wantMarkers("exiting", "failed", "ready")
}

func TestNothingHappensBeforeReady(t *testing.T) {
	f := newFixture(t)
	f.touch(marker.Complete)
	done := make(chan error, 1)
	e := f.environment()
	go func() {
		_, err := e.Run(context.Background())
		done <- err
	}()
	f.wantMarkers("complete")
	f.wantTrace()
	f.touch(marker.Ready)
	if err := <-done; err != nil {
		t.Error(err)
	}
	f.wantMarkers("exiting", "ready")
}

func TestScriptFailure(t *testing.T) {
	broken := errors.New("exit status 3")
	for _, test := range []struct {
		required bool
		want     marker.Name
	}{{true, marker.Failed}, {false, marker.Complete}} {
		f := newFixture(t)
		f.touch(marker.Ready)
		e := f.environment()
		e.ScriptRequired = test.required
		e.Script = func(context.Context) error { f.touch(marker.Complete); return broken }
		f.run(e, test.want)
	}
}

func TestStepThatFailsEndsTheJobAtOnce(t *testing.T) {
	f := newFixture(t)
	f.touch(marker.Ready)
	e := f.environment()
	broken := errors.New("chmod go-w /mnt")
	e.Steps[0].Do = func(context.Context) error { return broken }
	verdict, err := e.Run(t.Context())
	if verdict != marker.Failed || !errors.Is(err, broken) {
		t.Errorf("verdict %q, error %v", verdict, err)
	}
	f.wantTrace("undo jail", "shutdown", "undo mounts", "undo jail")
	f.wantMarkers("exiting", "failed", "ready")
}

func TestMountsThatStayFailTheJob(t *testing.T) {
	f := newFixture(t)
	f.touch(marker.Ready, marker.Complete)
	e := f.environment()
	calls := 0
	e.Steps[1].Undo = func() error {
		if calls++; calls > 1 {
			return errors.New("device busy")
		}
		return nil
	}
	if verdict, err := e.Run(t.Context()); verdict != marker.Failed || err == nil {
		t.Errorf("verdict %q, error %v", verdict, err)
	}
	f.wantMarkers("exiting", "failed", "ready")
}

func TestSignalEndsTheSessionInGoodOrder(t *testing.T) {
	f := newFixture(t)
	f.touch(marker.Ready)
	e := f.environment()
	ctx, cancel := context.WithCancel(t.Context())
	e.Serving = cancel
	if verdict, err := e.Run(ctx); verdict != marker.Failed || !errors.Is(err, context.Canceled) {
		t.Errorf("verdict %q, error %v", verdict, err)
	}
	f.wantTrace("undo jail", "jail", "undo mounts", "mounts", "listen", "shutdown", "undo mounts", "undo jail")
	f.wantMarkers("exiting", "failed", "ready")
}

// killed is what a test raises to end an agent where kill -9 would.
type killed struct{}

// kill runs the environment until it panics at the place where the test has put it.
func (f *fixture) kill(e *Environment) {
	f.t.Helper()
	defer func() {
		if _, ok := recover().(killed); !ok {
			f.t.Fatal("the agent was not killed where the test meant it to be")
		}
		f.trace = nil
	}()
	e.Run(f.t.Context())
}

func TestRestartContinues(t *testing.T) {
	for _, test := range []struct {
		name  string
		where func(f *fixture, e *Environment) // arranges the death
		user  []marker.Name                    // what the user does meanwhile
		want  marker.Name
		trace []string
	}{
		{"killed in a step", func(_ *fixture, e *Environment) {
			e.Steps[1].Do = func(context.Context) error { panic(killed{}) }
		}, []marker.Name{marker.Complete}, marker.Complete,
			[]string{"undo jail", "jail", "undo mounts", "mounts", "listen", "script", "shutdown", "undo mounts", "undo jail"}},
		{"killed in the script: half of it must not run twice", func(_ *fixture, e *Environment) {
			e.Script = func(context.Context) error { panic(killed{}) }
		}, []marker.Name{marker.Complete}, marker.Complete,
			[]string{"undo jail", "jail", "undo mounts", "mounts", "listen", "shutdown", "undo mounts", "undo jail"}},
		{"killed while waiting, after the script", func(f *fixture, e *Environment) {
			e.Script = func(context.Context) error { return nil }
			e.Marks.User = lethal{marker.Directory(f.dir)}
		}, []marker.Name{marker.Failed}, marker.Failed,
			[]string{"undo jail", "jail", "undo mounts", "mounts", "listen", "shutdown", "undo mounts", "undo jail"}},
		{"killed on the way out: the doors stay shut", func(f *fixture, e *Environment) {
			f.touch(marker.Complete)
			e.Steps[0].Undo = diesAt(2)
		}, nil, marker.Complete,
			[]string{"shutdown", "undo mounts", "undo jail"}},
		{"killed between complete and exiting", func(f *fixture, e *Environment) {
			f.touch(marker.Complete)
			e.Marks.Parent = lethalExit{marker.Directory(f.dir)}
		}, nil, marker.Complete,
			[]string{"shutdown", "undo mounts", "undo jail"}},
		{"started again after the end", func(f *fixture, e *Environment) {
			f.touch(marker.Complete)
			e.Run(f.t.Context())
			panic(killed{})
		}, nil, marker.Complete, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t)
			f.touch(marker.Ready)
			e := f.environment()
			func() {
				defer func() { recover() }()
				test.where(f, e)
				f.kill(e)
			}()
			f.trace = nil
			f.touch(test.user...)
			again := f.environment()
			again.Script = func(context.Context) error { f.note("script"); return nil }
			f.run(again, test.want)
			f.wantTrace(test.trace...)
			if !marker.Exists(marker.Directory(f.dir), marker.Exiting) {
				t.Error("no exiting marker")
			}
		})
	}
}

// lethal kills whoever looks for a verdict; the watch over the script looks for
// failed only.
type lethal struct{ marker.Directory }

func (l lethal) Find(name string) (time.Time, bool) {
	if name == string(marker.Complete) {
		panic(killed{})
	}
	return l.Directory.Find(name)
}

// lethalExit kills whoever says that he is exiting.
type lethalExit struct{ marker.Directory }

func (l lethalExit) Create(string) error { panic(killed{}) }

// diesAt is an undo that is survived only before the given call.
func diesAt(call int) func() error {
	calls := 0
	return func() error {
		if calls++; calls == call {
			panic(killed{})
		}
		return nil
	}
}

func TestScriptEndsWhenTheWorkIsThrownAway(t *testing.T) {
	f := newFixture(t)
	f.touch(marker.Ready)
	e := f.environment()
	e.Script = func(ctx context.Context) error {
		f.touch(marker.Failed)
		<-ctx.Done()
		return context.Cause(ctx)
	}
	f.run(e, marker.Failed)
}

// touch(1) creates a file and only then gives it a time.
func TestReadyThatGetsItsTimeLaterIsTheSame(t *testing.T) {
	f := newFixture(t)
	f.touch(marker.Ready)
	e := f.environment()
	e.Serving = func() { f.touch(marker.Ready, marker.Complete) }
	f.run(e, marker.Complete)
	f.trace = nil
	f.run(f.environment(), marker.Complete)
	f.wantTrace()
}

func TestNewReadyBeginsANewSession(t *testing.T) {
	f := newFixture(t)
	f.touch(marker.Ready, marker.Complete)
	f.run(f.environment(), marker.Complete)
	f.trace = nil
	f.touch(marker.Ready, marker.Failed)
	f.run(f.environment(), marker.Failed)
	if !slices.Contains(f.trace, "listen") {
		t.Error("the second session did not open")
	}
}

func TestLockKeepsASecondAgentOut(t *testing.T) {
	dir := t.TempDir()
	release, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(dir); !errors.Is(err, ErrBusy) {
		t.Errorf("second lock: %v, want ErrBusy", err)
	}
	if locked, err := Locked(dir); !locked || err != nil {
		t.Errorf("Locked = %t, %v while it is", locked, err)
	}
	release()
	if locked, err := Locked(dir); locked || err != nil {
		t.Errorf("Locked = %t, %v after release", locked, err)
	}
	again, err := Lock(dir)
	if err != nil {
		t.Fatalf("after release: %v", err)
	}
	again()
}

func TestDecide(t *testing.T) {
	for _, test := range []struct {
		action             Action
		buildFailed, debug bool
		shell, pack        bool
		root               string
	}{
		{Create, false, false, false, true, "build/image-root"},
		{Create, false, true, false, true, "build/image-root"},
		{Create, true, false, false, false, "build/image-root"},
		{Create, true, true, true, false, "build/image-root"},
		{Customize, false, false, true, true, "image-root"},
		{Customize, true, true, true, true, "image-root"},
		{"rebuild", false, false, false, false, "image-root"},
		{"", false, true, false, false, "image-root"},
	} {
		got := Decide(test.action, test.buildFailed, test.debug)
		if got.Shell != test.shell || got.Package != test.pack || got.Root != test.root {
			t.Errorf("Decide(%q, %t, %t) = %+v", test.action, test.buildFailed, test.debug, got)
		}
	}
}

func TestRefuseLeavesBothMarkers(t *testing.T) {
	f := newFixture(t)
	f.touch(marker.Ready)
	e := f.environment()
	Refuse(t.Context(), e.Marks, e.Log)
	f.wantMarkers("exiting", "failed", "ready")
}

func TestRefuseSpeaksAgainToALateSidecar(t *testing.T) {
	f := newFixture(t)
	e := f.environment()
	place := marker.Directory(f.dir)
	done := make(chan struct{})
	go func() {
		Refuse(context.Background(), e.Marks, e.Log)
		close(done)
	}()
	if _, err := marker.Wait(t.Context(), place, marker.Exiting); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(marker.Remove(place, marker.Failed), marker.Remove(place, marker.Exiting)); err != nil {
		t.Fatal(err)
	}
	f.touch(marker.Ready)
	<-done
	f.wantMarkers("exiting", "failed", "ready")
}
