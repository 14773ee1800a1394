package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// StateFile is the name of the file, beside the markers, in which an agent
// notes what the markers cannot say. It is private to buildenv.
const StateFile = ".buildenv-state"

// State is what a restarted agent has to know: how far the session got, and how
// to undo what was done to the image root. It is a set of named JSON values in
// one file, replaced by renaming, and safe for concurrent use. It is made to survive the death of a process,
// not of a machine, and so it does not wait for the disk.
type State struct {
	path string

	mu     sync.Mutex // protects values and the file
	values map[string]json.RawMessage
}

// LoadState reads the state kept in dir; a missing file is an empty state.
func LoadState(dir string) (*State, error) {
	s := &State{path: filepath.Join(dir, StateFile), values: map[string]json.RawMessage{}}
	text, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read job state: %w", err)
	}
	if err := json.Unmarshal(text, &s.values); err != nil {
		return nil, fmt.Errorf("read job state: %s: %w; remove the file to begin the job anew", s.path, err)
	}
	return s, nil
}

// Get decodes the value of that name; false when there is none.
func (s *State) Get(name string, value any) (bool, error) {
	s.mu.Lock()
	text, ok := s.values[name]
	s.mu.Unlock()
	if !ok {
		return false, nil
	}
	if err := json.Unmarshal(text, value); err != nil {
		return false, fmt.Errorf("read job state: %s: %w", name, err)
	}
	return true, nil
}

// Put notes a value; it is on file when Put returns.
func (s *State) Put(name string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("note %s: %w", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[name] = text
	return s.save()
}

// Drop forgets a value.
func (s *State) Drop(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.values[name]; !ok {
		return nil
	}
	delete(s.values, name)
	return s.save()
}

// Clear forgets everything and removes the file: the job is over.
func (s *State) Clear() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.values)
	if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove job state: %w", err)
	}
	return nil
}

func (s *State) save() error {
	text, err := json.Marshal(s.values)
	if err != nil {
		return fmt.Errorf("write job state: %w", err)
	}
	next := s.path + ".new"
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return fmt.Errorf("write job state: %w", err)
	}
	if err := os.Rename(next, s.path); err != nil {
		return fmt.Errorf("write job state: %w", err)
	}
	return nil
}
