package entrypoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"buildenv/agent"
	"buildenv/agent/marker"
	"buildenv/artifacts"
	"buildenv/artifacts/rootfs"
)

// job is one job with its parts put together.
type job struct {
	cfg    Config
	log    *slog.Logger
	stderr io.Writer // for a progress bar
	plan   agent.Plan
	root   string // the image root
	marks  agent.Marks
	state  *agent.State
	server *sshServer
	// scriptGroup is the process group of the customization script, 0 before it
	// runs. What it leaves in the background may serve the users, and must end
	// with them.
	scriptGroup int
}

// noteJob is the name under which a job's description is noted in its state,
// for the commands complete, fail and status.
const noteJob = "job"

// description is what those commands need to know.
type description struct {
	ID     string       `json:"job_id,omitempty"`
	Action agent.Action `json:"action"`
	Arch   string       `json:"arch"`
	Root   string       `json:"image_root"`
	Jailed bool         `json:"jailed"`
}

// newJob decides what is to be done, reads how far it has been done, and notes
// what the job is. The image root's parent must be locked.
func newJob(cfg Config, log *slog.Logger, stderr io.Writer) (*job, error) {
	j := &job{cfg: cfg, log: log, stderr: stderr, plan: planOf(cfg)}
	j.root = filepath.Join(cfg.ImageRootParent, j.plan.Root)
	j.marks = marksOf(cfg.ImageRootParent, j.description())
	var err error
	if j.state, err = agent.LoadState(cfg.ImageRootParent); err != nil {
		return nil, err
	}
	j.server = &sshServer{job: j}
	if !j.plan.Shell {
		return j, nil
	}
	return j, j.state.Put(noteJob, j.description())
}

// planOf is what the job amounts to.
func planOf(cfg Config) agent.Plan {
	parent := marker.Directory(cfg.ImageRootParent)
	return agent.Decide(cfg.Action, marker.Exists(parent, marker.BuildFailed), isTrue(cfg.EnableDebug))
}

func (j *job) description() description {
	return description{j.cfg.JobID, j.cfg.Action, j.cfg.Arch, j.root, j.cfg.jailed()}
}

// marksOf is where the markers of a job are: a jailed user reaches the image
// root only, and so leaves his there.
func marksOf(parent string, d description) agent.Marks {
	marks := agent.Marks{Parent: marker.Directory(parent), User: marker.Directory(parent)}
	if d.Jailed {
		marks.User = jailedPlace(d.Root)
	}
	return marks
}

// environment is the build environment's half of the job.
func (j *job) environment() *agent.Environment {
	return &agent.Environment{
		Marks:          j.marks,
		State:          j.state,
		Steps:          j.steps(),
		Server:         j.server,
		Script:         j.script(),
		ScriptRequired: isTrue(j.cfg.ScriptRequired),
		Log:            j.log,
	}
}

// standalone is the whole job, with what the sidecar does.
func (j *job) standalone(pack artifacts.PackOptions) (*agent.Standalone, error) {
	if j.plan.Shell {
		j.warnOfBoot()
	}
	st, err := openStore(j.cfg.ArtifactStore, j.cfg.S3Bucket, j.log)
	if err != nil {
		return nil, err
	}
	publisher := j.publisher(st, pack)
	s := &agent.Standalone{
		Plan:        j.plan,
		Environment: j.environment(),
		Steps:       j.sidecarSteps(),
		Publish:     func(ctx context.Context) (agent.Result, error) { return j.publish(ctx, publisher) },
		Recover: func(ctx context.Context, id string) (*agent.Result, error) {
			return publisher.Recover(ctx, id, j.cfg.JobID)
		},
		Status: func(status artifacts.Status) {
			if err := st.registry.SetJobStatus(context.Background(), j.cfg.JobID, status); err != nil {
				j.log.Error("set job status", "status", string(status), "error", err)
			}
		},
		State: j.state,
		Log:   j.log,
	}
	publisher.Note = s.NoteImage
	return s, nil
}

// warnOfBoot tells early what packaging would stumble over: the user who is about
// to work on the root can still do something about it.
func (j *job) warnOfBoot() {
	err := j.withRoot(func(root *rootfs.Root) error {
		boot, err := rootfs.Boot(root, j.cfg.KernelFilename, j.cfg.InitrdFilename, j.cfg.ParametersName)
		boot.Close()
		return err
	})
	if err != nil {
		j.log.Warn("the image root cannot be packaged as it is", "error", err)
	}
}

// recorded is a change of the image root that a restarted agent can take back:
// a plan that is noted before it is carried out.
type recorded interface {
	Put(*rootfs.Root) error
	Restore(*rootfs.Root) error
}

// recordedStep plans a change, notes the plan under the step's name, and carries it out.
func recordedStep[Plan recorded](j *job, name string, plan func(*rootfs.Root) (Plan, error)) agent.Step {
	return agent.Step{
		Name: name,
		Do: func(context.Context) error {
			return j.withRoot(func(root *rootfs.Root) error {
				p, err := plan(root)
				if err != nil {
					return err
				}
				if err := j.state.Put(name, p); err != nil {
					return err
				}
				return p.Put(root)
			})
		},
		Undo: func() error {
			var p Plan
			if there, err := j.state.Get(name, &p); err != nil || !there {
				return err
			}
			if err := j.withRoot(p.Restore); err != nil {
				return err
			}
			return j.state.Drop(name)
		},
	}
}

func (j *job) withRoot(do func(*rootfs.Root) error) error {
	root, err := rootfs.Open(j.root)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; unpack an image there first: buildenv prepare %s SOURCE", err, j.cfg.ImageRootParent)
	}
	if err != nil {
		return err
	}
	defer root.Close()
	return do(root)
}

// siteCA and siteResolver are what a container lends its image root.
const (
	siteCA       = "/etc/cray/ca"
	siteResolver = "/etc/resolv.conf"
)

// sidecarSteps are what the sidecar does to the image root before users come in.
func (j *job) sidecarSteps() []agent.Step {
	var steps []agent.Step
	if _, err := os.Stat(siteCA); err == nil {
		steps = append(steps, recordedStep(j, "site CA", func(root *rootfs.Root) (rootfs.CA, error) {
			return rootfs.PlanCA(root, siteCA)
		}))
	}
	if content, err := os.ReadFile(siteResolver); err == nil {
		steps = append(steps, recordedStep(j, "resolv.conf", func(root *rootfs.Root) (rootfs.Resolver, error) {
			return rootfs.PlanResolver(root, content)
		}))
	}
	return steps
}
