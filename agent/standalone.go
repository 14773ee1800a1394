package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"buildenv/agent/marker"
	"buildenv/artifacts"
)

// ErrJobFailed is returned when a job ended as it should but made no image:
// its build had failed, or its action is unknown.
var ErrJobFailed = errors.New("the job made no image")

// Standalone is a whole job in one process: the build environment and, around
// it, what the sidecar does in a pod.
type Standalone struct {
	Plan        Plan
	Environment *Environment // used when the plan has a shell
	// Steps are done before ready and undone after exiting: what the sidecar
	// puts into the image root.
	Steps []Step
	// Publish makes the image of the root; discard cleans up after one that was
	// interrupted.
	Publish func(ctx context.Context) (Result, error)
	Discard func(ctx context.Context, id string) error
	// Status tells the world how far the job is. It cannot fail the job.
	Status func(artifacts.Status)
	State  *State
	Log    *slog.Logger
}

// noteImage is the note of an image that is being published.
const noteImage = "image"

// Run does the job and returns its image; a nil image and no error mean that the
// user marked the root failed. ErrJobFailed tells that there was nothing to
// publish, any other error what went wrong.
func (s *Standalone) Run(ctx context.Context) (*Result, error) {
	result, err := s.run(ctx)
	if result != nil {
		s.Status(artifacts.StatusSuccess)
	} else {
		s.Status(artifacts.StatusError)
	}
	return result, err
}

func (s *Standalone) run(ctx context.Context) (*Result, error) {
	if err := s.discardInterrupted(ctx); err != nil {
		return nil, err
	}
	verdict, err := s.session(ctx)
	if err != nil || verdict == marker.Failed {
		return nil, errors.Join(err, s.State.Clear())
	}
	if s.Plan.Fails || !s.Plan.Package {
		return nil, errors.Join(fmt.Errorf("%w: %s", ErrJobFailed, s.Plan.Why), s.State.Clear())
	}
	s.Status(artifacts.StatusPackaging)
	result, err := s.Publish(ctx)
	if ctx.Err() != nil {
		// The user's verdict stands: a restart packages again.
		return nil, errors.Join(err, s.State.Drop(noteImage))
	}
	if err != nil {
		return nil, errors.Join(err, s.State.Clear())
	}
	return &result, s.State.Clear()
}

// NoteImage remembers an image that is about to be stored.
func (s *Standalone) NoteImage(id string) error { return s.State.Put(noteImage, id) }

// discardInterrupted removes what a killed agent had published of its image.
func (s *Standalone) discardInterrupted(ctx context.Context) error {
	var id string
	if there, err := s.State.Get(noteImage, &id); err != nil || !there {
		return err
	}
	s.Log.Info("removing an image that was not finished", "image", id)
	if err := s.Discard(ctx, id); err != nil {
		return err
	}
	return s.State.Drop(noteImage)
}

// session is the sidecar's half around the environment's.
func (s *Standalone) session(ctx context.Context) (marker.Name, error) {
	if !s.Plan.Shell {
		s.Log.Info("no shell", "reason", s.Plan.Why)
		return "", nil
	}
	if err := s.open(ctx); err != nil {
		return marker.Failed, errors.Join(err, undoAll(s.Steps))
	}
	s.Environment.Serving = func() { s.Status(artifacts.StatusWaiting) }
	verdict, err := s.Environment.Run(ctx)
	if undone := undoAll(s.Steps); undone != nil {
		verdict, err = marker.Failed, errors.Join(err, undone)
	}
	return verdict, errors.Join(err, marker.Remove(s.Environment.Marks.Parent, marker.Exiting))
}

// open prepares the root and says ready, unless a session is going on that a
// restarted agent continues: then the user's markers must stay.
func (s *Standalone) open(ctx context.Context) error {
	marks := s.Environment.Marks
	going, err := s.State.Get(noteSession, new(string))
	if err != nil {
		return err
	}
	if !going {
		err = errors.Join(marker.Remove(marks.User, marker.Complete), marker.Remove(marks.User, marker.Failed),
			marker.Remove(marks.Parent, marker.Exiting))
	}
	if err != nil {
		return fmt.Errorf("remove stale markers: %w", err)
	}
	verdict, err := Verdict(s.State)
	if err != nil || verdict != "" {
		return err
	}
	for _, step := range s.Steps {
		if err := step.redo(ctx); err != nil {
			return err
		}
	}
	if going {
		return nil
	}
	if err := marks.Parent.Create(string(marker.Ready)); err != nil {
		return fmt.Errorf("create ready: %w", err)
	}
	return nil
}
