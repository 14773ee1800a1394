package agent

import (
	"context"
	"errors"
	"slices"
	"testing"

	"buildenv/agent/marker"
	"buildenv/artifacts"
)

// standalone is a whole job in the fixture's folder. Users mark their work
// complete as soon as they can come in.
func (f *fixture) standalone() *Standalone {
	e := f.environment()
	e.Steps = nil
	e.Script = func(context.Context) error { f.note("session"); f.touch(marker.Complete); return nil }
	return &Standalone{
		Plan:        Decide(Customize, false, false),
		Environment: e,
		Steps:       []Step{f.step("lend")},
		Publish: func(context.Context) (Result, error) {
			f.note("publish")
			return Result{Image: artifacts.Image{ID: "new"}}, nil
		},
		Recover: func(context.Context, string) (*Result, error) { f.note("recover"); return nil, nil },
		Status:  func(status artifacts.Status) { f.note(string(status)) },
		State:   e.State,
		Log:     e.Log,
	}
}

func (f *fixture) wantImage(s *Standalone, want string) {
	f.t.Helper()
	result, err := s.Run(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	got := ""
	if result != nil {
		got = result.Image.ID
	}
	if got != want {
		f.t.Errorf("image %q, want %q", got, want)
	}
}

func TestStandaloneDoesBothHalves(t *testing.T) {
	f := newFixture(t)
	f.touch(marker.Failed, marker.Complete, marker.Exiting) // of an earlier job
	f.wantImage(f.standalone(), "new")
	f.wantTrace("undo lend", "lend", "listen", "waiting_on_user", "session", "shutdown", "undo lend",
		"packaging_artifacts", "publish", "success")
	f.wantMarkers("ready")
}

func TestStandaloneMarkedFailedPublishesNothing(t *testing.T) {
	f := newFixture(t)
	s := f.standalone()
	s.Environment.Script = func(context.Context) error { f.touch(marker.Failed); return nil }
	f.wantImage(s, "")
	if slices.Contains(f.trace, "publish") || !slices.Contains(f.trace, "error") {
		t.Errorf("trace %q", f.trace)
	}
}

func TestStandaloneWithoutAShell(t *testing.T) {
	f := newFixture(t)
	s := f.standalone()
	s.Plan = Decide(Create, false, false)
	f.wantImage(s, "new")
	f.wantTrace("packaging_artifacts", "publish", "success")

	s = f.standalone()
	s.Plan = Decide(Create, true, false)
	if _, err := s.Run(t.Context()); !errors.Is(err, ErrJobFailed) {
		t.Errorf("error %v, want ErrJobFailed", err)
	}
}

// What the user has said stands: a disk that was full for a moment must not
// cost his work, nor make him come again.
func TestStandalonePackagesAgainAfterAFailure(t *testing.T) {
	f := newFixture(t)
	s := f.standalone()
	full := errors.New("no space left on device")
	s.Publish = func(context.Context) (Result, error) { return Result{}, full }
	if _, err := s.Run(t.Context()); !errors.Is(err, full) {
		t.Fatalf("error %v", err)
	}
	f.trace = nil
	f.wantImage(f.standalone(), "new")
	if slices.Contains(f.trace, "session") || slices.Contains(f.trace, "listen") {
		t.Errorf("the session was opened again: %q", f.trace)
	}
}

// A result that is there when the signal comes is a result.
func TestStandaloneKeepsAnImageThatASignalFindsDone(t *testing.T) {
	f := newFixture(t)
	s := f.standalone()
	ctx, cancel := context.WithCancel(t.Context())
	s.Publish = func(context.Context) (Result, error) {
		cancel()
		return Result{Image: artifacts.Image{ID: "done"}}, nil
	}
	if result, err := s.Run(ctx); err != nil || result == nil || result.Image.ID != "done" {
		t.Errorf("%v, %v", result, err)
	}
}

func TestStandaloneLooksAfterAnInterruptedImage(t *testing.T) {
	interrupted := func(t *testing.T) *fixture {
		f := newFixture(t)
		s := f.standalone()
		s.Publish = func(context.Context) (Result, error) {
			if err := s.NoteImage("half"); err != nil {
				t.Fatal(err)
			}
			panic(killed{})
		}
		func() {
			defer func() { recover() }()
			s.Run(t.Context())
		}()
		f.trace = nil
		return f
	}
	t.Run("incomplete", func(t *testing.T) {
		f := interrupted(t)
		f.wantImage(f.standalone(), "new")
		f.wantTrace("recover", "shutdown", "undo lend", "packaging_artifacts", "publish", "success")
	})
	t.Run("complete", func(t *testing.T) {
		f := interrupted(t)
		s := f.standalone()
		s.Recover = func(_ context.Context, id string) (*Result, error) {
			return &Result{Image: artifacts.Image{ID: id}}, nil
		}
		f.wantImage(s, "half")
		f.wantTrace("success")
	})
}
