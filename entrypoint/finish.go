package entrypoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"buildenv/agent"
	"buildenv/agent/marker"
)

func newCompleteCommand(s streams) *cobra.Command {
	return newVerdictCommand(s, "complete", marker.Complete, "Say that the work is good: the session ends, the image root is packaged")
}

func newFailCommand(s streams) *cobra.Command {
	return newVerdictCommand(s, "fail", marker.Failed, "Throw the work away: the session ends, nothing is published")
}

func newVerdictCommand(s streams, name string, verdict marker.Name, short string) *cobra.Command {
	return &cobra.Command{
		Use:     name + " [IMAGE_ROOT_PARENT]",
		Short:   short,
		Example: "  buildenv " + name,
		Args:    args(0, 1),
		RunE: func(_ *cobra.Command, given []string) error {
			found, err := findJob(given)
			if err != nil {
				return err
			}
			return found.end(s.out, verdict)
		},
	}
}

func newStatusCommand(s streams) *cobra.Command {
	asJSON, changes := false, false
	c := &cobra.Command{
		Use:   "status [IMAGE_ROOT_PARENT]",
		Short: "Show the job and how far it is, or what has been changed",
		Long: `Shows the job and how far it is. With --changes it shows, instead, each path that
the image root does not have as the squashfs has it from which it was unpacked.`,
		Example: "  buildenv status\n  buildenv status --json /mnt/image\n  buildenv status --changes /mnt/image",
		Args:    args(0, 1),
		RunE: func(c *cobra.Command, given []string) error {
			found, err := findJob(given)
			if err != nil {
				return err
			}
			if changes {
				return found.showChanges(c.Context(), s.out, slog.New(slog.DiscardHandler), asJSON)
			}
			return found.show(s.out, asJSON)
		},
	}
	c.Flags().BoolVar(&changes, "changes", false, "show what has been added, removed and changed since the image was unpacked")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// foundJob is a job that another process is at work on, seen from a session.
type foundJob struct {
	parent string
	description
	state *agent.State
	marks agent.Marks
}

// findJob looks for the job in the folder given, or in IMAGE_ROOT_PARENT. What
// the job is stands in its state; where an agent of another kind is at work
// there is none, and the environment tells.
func findJob(given []string) (*foundJob, error) {
	cfg, _ := loadConfig()
	if len(given) == 1 {
		cfg.ImageRootParent = given[0]
	}
	parent, err := filepath.Abs(cfg.ImageRootParent)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(parent); err != nil {
		return nil, fmt.Errorf("find the job: %w; name its IMAGE_ROOT_PARENT", err)
	}
	state, err := agent.LoadState(parent)
	if err != nil {
		return nil, err
	}
	plan := agent.Decide(cfg.Action, false, false)
	d := description{cfg.JobID, cfg.Action, cfg.Arch, filepath.Join(parent, plan.Root), cfg.jailed()}
	if _, err := state.Get(noteJob, &d); err != nil {
		return nil, err
	}
	return &foundJob{parent, d, state, marksOf(parent, d)}, nil
}

func (f *foundJob) end(out io.Writer, verdict marker.Name) error {
	if marker.Exists(f.marks.Parent, marker.Exiting) {
		return fmt.Errorf("mark %s: the session in %s has ended already", verdict, f.parent)
	}
	if err := f.marks.User.Create(string(verdict)); err != nil {
		return fmt.Errorf("mark %s: %w", verdict, err)
	}
	running, err := agent.Locked(f.parent)
	if err != nil {
		return err
	}
	what := "the session ends now"
	if !running { // or it is in another container, whose processes cannot be seen from here
		what = "no build environment is seen at work here; one that is, or is started, ends its session"
	}
	_, err = fmt.Fprintf(out, "marked %s: %s\n", verdict, what)
	return err
}

// status is what the command status prints as JSON.
type status struct {
	description
	Parent  string   `json:"image_root_parent"`
	Running bool     `json:"running"` // an agent is at work
	State   string   `json:"state"`
	Markers []string `json:"markers"`
}

func (f *foundJob) status() (status, error) {
	verdict, err := agent.Verdict(f.state)
	if err != nil {
		return status{}, err
	}
	running, err := agent.Locked(f.parent)
	if err != nil {
		return status{}, err
	}
	return status{f.description, f.parent, running, f.stateOf(verdict, running), f.markers()}, nil
}

func (f *foundJob) stateOf(verdict marker.Name, running bool) string {
	switch {
	case verdict != "":
		return "ended: " + string(verdict)
	case marker.Exists(f.marks.Parent, marker.Exiting):
		return "ended"
	case !running:
		return "no session"
	case !marker.Exists(f.marks.Parent, marker.Ready):
		return "waiting for ready"
	default:
		return "waiting for the user"
	}
}

// markers lists those that are there now.
func (f *foundJob) markers() []string {
	there := []string{}
	for _, name := range []marker.Name{marker.Ready, marker.BuildFailed, marker.Exiting} {
		if marker.Exists(f.marks.Parent, name) {
			there = append(there, string(name))
		}
	}
	for _, name := range []marker.Name{marker.Complete, marker.Failed} {
		if marker.Exists(f.marks.User, name) {
			there = append(there, string(name))
		}
	}
	return there
}

func (f *foundJob) show(out io.Writer, asJSON bool) error {
	st, err := f.status()
	if err != nil {
		return err
	}
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(st)
	}
	jailed, agentState := "", "no build environment is running"
	if st.Jailed {
		jailed = " (users are jailed in it)"
	}
	if st.Running {
		agentState = "a build environment is running"
	}
	var lines []error
	line := func(label, text string) {
		_, err := fmt.Fprintf(out, "%-12s%s\n", label+":", text)
		lines = append(lines, err)
	}
	line("job", orNone(st.ID))
	line("action", orNone(string(st.Action)))
	line("arch", st.Arch)
	line("image root", st.Root+jailed)
	line("state", st.State+"; "+agentState)
	line("markers", orNone(strings.Join(st.Markers, " ")))
	return errors.Join(lines...)
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}
