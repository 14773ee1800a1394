package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"buildenv/agent/marker"
)

// Server is the SSH server as a job sees it.
type Server interface {
	// Start returns once users can connect; it serves in the background.
	Start(ctx context.Context) error
	// Shutdown tells the users why, ends their sessions and returns when no
	// process of theirs is left. Without a Start before it does nothing.
	Shutdown(ctx context.Context, reason string) error
}

// Step is something done to the environment before users come in.
type Step struct {
	Name string
	Do   func(ctx context.Context) error
	// Undo takes it back; nil when there is nothing to take back. It is also
	// called before Do, to clear what a killed agent left, and so must do
	// nothing when there is nothing to undo.
	Undo func() error
}

// Marks are the places of a job's markers.
type Marks struct {
	Parent marker.Place // ready, exiting, build_failed
	User   marker.Place // complete, failed: inside the image root when users are jailed
}

// fail leaves failed where the sidecar looks for it, and where an operator does.
func (m Marks) fail(log *slog.Logger) {
	mark(log, m.User, marker.Failed)
	if m.User != m.Parent {
		mark(log, m.Parent, marker.Failed)
	}
}

func mark(log *slog.Logger, place marker.Place, name marker.Name) {
	if err := place.Create(string(name)); err != nil {
		log.Error("create marker", "marker", string(name), "in", place.Path(), "error", err)
	}
}

// lateSidecar is how long a refused job waits for a sidecar that has not
// started yet: it would remove the markers as stale and wait for ever.
const lateSidecar = 20 * time.Second

// Refuse ends a job that cannot begin: failed and exiting are left, and left
// once more if a sidecar comes up within 20 seconds, clears them as stale and
// says ready. A container engine starts the containers of a pod seconds apart.
func Refuse(ctx context.Context, marks Marks, log *slog.Logger) {
	there := marker.Exists(marks.Parent, marker.Ready)
	marks.fail(log)
	mark(log, marks.Parent, marker.Exiting)
	if there {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lateSidecar)
	defer cancel()
	if _, err := marker.Wait(ctx, marks.Parent, marker.Ready); err == nil {
		marks.fail(log)
		mark(log, marks.Parent, marker.Exiting)
	}
}

// Environment is the build environment's half of a job: it waits for ready,
// lets the users in, waits until they mark their work, sees them out, and
// leaves exiting.
type Environment struct {
	Marks  Marks
	State  *State
	Steps  []Step
	Server Server
	// Script customizes the root without anybody logging in; nil for none. It
	// runs once in a job's life, also when the agent is restarted.
	Script         func(ctx context.Context) error
	ScriptRequired bool // a script that fails, fails the job
	// Serving is told once users can connect; nil for nobody.
	Serving func()
	Log     *slog.Logger
}

// Names of what an environment notes in its State.
const (
	noteSession = "session" // which ready the notes below belong to
	noteScript  = "script"  // scriptStarted or scriptDone
	noteVerdict = "verdict" // complete or failed, once it is decided
)

const (
	scriptStarted = "started"
	scriptDone    = "done"
)

// farewell bounds everything between a verdict, or a signal, and the exiting
// marker: Kubernetes kills a pod 30 seconds after it has asked it to stop.
const farewell = 18 * time.Second

// Run does the whole half and returns the verdict, complete or failed. The error
// says why there was no session, or why it was cut short; the verdict is failed
// then, and the failed and exiting markers are there in any case, so that
// nobody waits for ever.
func (e *Environment) Run(ctx context.Context) (marker.Name, error) {
	e.Log.Info("waiting for the marker ready", "in", e.Marks.Parent.Path())
	if _, err := marker.Wait(ctx, e.Marks.Parent, marker.Ready); err != nil {
		return e.leave(marker.Failed, fmt.Errorf("wait for ready: %w", err))
	}
	going, err := e.resume()
	if err != nil {
		return e.leave(marker.Failed, err)
	}
	verdict, err := Verdict(e.State)
	if err != nil {
		return e.leave(marker.Failed, err)
	}
	if verdict != "" && marker.Exists(e.Marks.Parent, marker.Exiting) {
		e.Log.Info("this session has ended already; create ready anew to begin another one")
		return verdict, nil
	}
	if going {
		e.Log.Info("continuing the session that was interrupted")
	}
	if verdict == "" {
		verdict, err = e.serve(ctx)
	}
	return e.leave(verdict, err)
}

// resume goes on with a session that was begun before, or forgets what was left
// of an earlier one. It tells which.
func (e *Environment) resume() (going bool, err error) {
	if going, err = e.going(); going || err != nil {
		return going, err
	}
	return false, errors.Join(marker.Remove(e.Marks.Parent, marker.Exiting),
		e.State.Drop(noteScript), e.State.Drop(noteVerdict), e.noteSession())
}

// noteSession notes which session the other notes belong to. It is noted anew
// once users are served and with every note: touch(1) creates a file and then gives it a time, and the
// agent may have seen it in between.
func (e *Environment) noteSession() error {
	session, ok := e.session()
	if !ok {
		return nil // somebody has removed it; the last note stands
	}
	return e.State.Put(noteSession, session)
}

// session names the session that ready stands for: one creation of the marker,
// known by its modification time. False when there is no ready.
func (e *Environment) session() (name string, ok bool) {
	created, ok := e.Marks.Parent.Find(string(marker.Ready))
	return strconv.FormatInt(created.UnixNano(), 10), ok
}

// going tells whether the notes are of the session that ready stands for.
func (e *Environment) going() (bool, error) {
	session, ok := e.session()
	var noted string
	_, err := e.State.Get(noteSession, &noted)
	return ok && noted == session, err
}

// Verdict is how the session that state tells of has ended, "" when it has not.
func Verdict(state *State) (verdict marker.Name, err error) {
	_, err = state.Get(noteVerdict, &verdict)
	return verdict, err
}

// serve lets the users in and waits for their verdict.
func (e *Environment) serve(ctx context.Context) (marker.Name, error) {
	for _, step := range e.Steps {
		if err := step.redo(ctx); err != nil {
			return marker.Failed, err
		}
	}
	if err := e.Server.Start(ctx); err != nil {
		return marker.Failed, err
	}
	e.attempt("note the session", e.noteSession())
	if e.Serving != nil {
		e.Serving()
	}
	e.runScript(ctx)
	e.Log.Info("waiting for the user's verdict", "complete", e.userMarker(marker.Complete), "failed", e.userMarker(marker.Failed))
	verdict, err := marker.Wait(ctx, e.Marks.User, marker.Failed, marker.Complete)
	if err != nil {
		return marker.Failed, fmt.Errorf("session cut short: %w", err)
	}
	return verdict, nil
}

func (e *Environment) userMarker(name marker.Name) string {
	return e.Marks.User.Path() + "/" + string(name)
}

// redo clears what an interrupted run of the step left, then does it.
func (s Step) redo(ctx context.Context) error {
	if err := s.undo(); err != nil {
		return err
	}
	if err := s.Do(ctx); err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	return nil
}

func (s Step) undo() error {
	if s.Undo == nil {
		return nil
	}
	if err := s.Undo(); err != nil {
		return fmt.Errorf("undo %s: %w", s.Name, err)
	}
	return nil
}

// undoAll takes steps back, the last one first; one failure does not keep the others.
func undoAll(steps []Step) error {
	var problems []error
	for _, step := range slices.Backward(steps) {
		problems = append(problems, step.undo())
	}
	return errors.Join(problems...)
}

// runScript runs the customization script unless it has been begun before: half
// of a script must not run twice. Its failure is the user's to judge, unless
// the job requires it to succeed.
func (e *Environment) runScript(ctx context.Context) {
	if e.Script == nil {
		return
	}
	err := e.runScriptOnce(ctx)
	if err == nil || ctx.Err() != nil {
		return
	}
	e.Log.Error("customization script", "error", err)
	if e.ScriptRequired {
		mark(e.Log, e.Marks.User, marker.Failed)
	}
}

func (e *Environment) runScriptOnce(ctx context.Context) error {
	var noted string
	if _, err := e.State.Get(noteScript, &noted); err != nil {
		return err
	}
	switch noted {
	case scriptDone:
		return nil
	case scriptStarted:
		return errors.New("interrupted when the build environment was restarted; it is not run again: log in to finish its work")
	}
	if err := errors.Join(e.noteSession(), e.State.Put(noteScript, scriptStarted)); err != nil {
		return err
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	go func() { // ends with ctx
		if _, err := marker.Wait(ctx, e.Marks.User, marker.Failed); err == nil {
			end(errThrownAway)
		}
	}()
	err := e.Script(ctx)
	return errors.Join(err, e.State.Put(noteScript, scriptDone))
}

// errThrownAway ends a script whose work nobody wants any more. Its end after
// complete is waited for: it may have work left to do.
var errThrownAway = errors.New("ended, because the job was marked failed")

// leave ends the session in the order that readers rely on: the verdict is noted
// first, so that a restart does not open the doors again; users leave before
// mounts are undone; exiting is the last act, whatever went wrong before.
func (e *Environment) leave(verdict marker.Name, cause error) (marker.Name, error) {
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	e.Log.Info("the session ends", "verdict", string(verdict))
	e.attempt("note the verdict", errors.Join(e.noteSession(), e.State.Put(noteVerdict, verdict)))
	e.attempt("end ssh sessions", e.Server.Shutdown(ctx, message(verdict, cause)))
	if err := undoAll(e.Steps); err != nil {
		// A root that is not clean must not be packaged.
		verdict, cause = marker.Failed, errors.Join(cause, err)
		e.attempt("note the verdict", e.State.Put(noteVerdict, verdict))
	}
	if cause != nil {
		e.Marks.fail(e.Log)
	}
	e.attempt("remove complete", marker.Remove(e.Marks.User, marker.Complete))
	mark(e.Log, e.Marks.Parent, marker.Exiting)
	return verdict, cause
}

// attempt logs what went wrong on the way out, where nothing may stop.
func (e *Environment) attempt(what string, err error) {
	if err != nil {
		e.Log.Error(what, "error", err)
	}
}

// message is what users read when their session is closed.
func message(verdict marker.Name, cause error) string {
	switch {
	case cause != nil:
		return "the build environment stops: " + cause.Error()
	case verdict == marker.Complete:
		return "the image root was marked complete: this session ends"
	default:
		return "the image root was marked failed: this session ends, nothing will be published"
	}
}
