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
	// Publish makes the image of the root. Recover looks at one that was being
	// published when the agent was killed: it returns the image if it is complete,
	// and otherwise removes what there is of it.
	Publish func(ctx context.Context) (Result, error)
	Recover func(ctx context.Context, id string) (*Result, error)
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
	if finished, err := s.recoverImage(ctx); finished != nil || err != nil {
		return finished, err
	}
	verdict, err := s.session(ctx)
	if err != nil || verdict == marker.Failed {
		return nil, errors.Join(err, s.State.Clear())
	}
	if !s.Plan.Package {
		return nil, errors.Join(fmt.Errorf("%w: %s", ErrJobFailed, s.Plan.Why), s.State.Clear())
	}
	s.Status(artifacts.StatusPackaging)
	result, err := s.Publish(ctx)
	if err != nil {
		// The verdict stays noted: started again, the job packages again.
		return nil, err
	}
	return &result, s.State.Clear()
}

// NoteImage remembers an image that is about to be stored.
func (s *Standalone) NoteImage(id string) error { return s.State.Put(noteImage, id) }

// recoverImage looks at the image that an earlier run was publishing. When it is
// complete, the job is done; otherwise nothing is left of it.
func (s *Standalone) recoverImage(ctx context.Context) (*Result, error) {
	var id string
	if there, err := s.State.Get(noteImage, &id); err != nil || !there {
		return nil, err
	}
	s.Log.Info("looking after an image that was being published", "image", id)
	finished, err := s.Recover(ctx, id)
	if err != nil {
		return nil, err
	}
	if finished != nil {
		return finished, s.State.Clear()
	}
	return nil, s.State.Drop(noteImage)
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
	going, err := s.Environment.going()
	if err != nil {
		return err
	}
	verdict, err := Verdict(s.State)
	if err != nil || going && verdict != "" {
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
	return s.Environment.Marks.begin()
}

// begin removes what an earlier session has left, and says ready.
func (m Marks) begin() error {
	err := errors.Join(marker.Remove(m.User, marker.Complete), marker.Remove(m.User, marker.Failed),
		marker.Remove(m.Parent, marker.Failed), marker.Remove(m.Parent, marker.Exiting))
	if err != nil {
		return fmt.Errorf("remove stale markers: %w", err)
	}
	if err := m.Parent.Create(string(marker.Ready)); err != nil {
		return fmt.Errorf("create ready: %w", err)
	}
	return nil
}
