package entrypoint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"buildenv/agent"
	"buildenv/artifacts/rootfs"
	"buildenv/internal/binfmt"
	"buildenv/internal/execx"
	"buildenv/sshd/forward"
	"buildenv/sshd/jail"
)

// sessionFiles is where the sidecar leaves sshd_config and authorized_keys, in a
// volume that may belong to anybody.
const sessionFiles = "/etc/cray/ims"

// steps are what the build environment does before users come in, in the order
// of the contract.
func (j *job) steps() []agent.Step {
	steps := []agent.Step{{Name: "own session files", Do: func(context.Context) error { return ownTree(sessionFiles) }}}
	if j.cfg.jailed() {
		steps = append(steps, agent.Step{Name: "prepare jail", Do: func(context.Context) error { return j.prepareJail() }})
	}
	steps = append(steps, j.mounts())
	if j.cfg.Arch == "aarch64" && runtime.GOARCH != "arm64" {
		steps = append(steps, emulation(binfmt.AArch64))
	}
	if j.cfg.jailed() {
		steps = append(steps, j.agents())
	}
	return append(steps, j.eviction())
}

// agents sees to it that no socket of a user's authentication agent is packaged.
// The server removes its own; a killed one has left them.
func (j *job) agents() agent.Step {
	return agent.Step{
		Name: "agents' sockets",
		Do:   func(context.Context) error { return nil },
		Undo: func() error { return forward.Sweep(j.root) },
	}
}

// mounts are the kernel's file systems for DKMS, and in every job what users
// mount themselves: it must be gone before the root is packaged.
func (j *job) mounts() agent.Step {
	if isTrue(j.cfg.EnableDKMS) {
		return recordedStep(j, "mounts", rootfs.PlanMounts)
	}
	step := recordedStep(j, "mounts", rootfs.PlanUserMounts)
	plan := step.Do
	step.Do = func(ctx context.Context) error {
		// A build that has failed early may have no root; its shell is open all the same.
		if err := plan(ctx); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		j.log.Warn("there is no image root yet", "at", j.root)
		return nil
	}
	return step
}

// eviction ends, once the users have left, what still works on the image root:
// the script's background processes, and the daemons that packages have started
// in the root. It is the first thing undone: they keep mounts busy.
func (j *job) eviction() agent.Step {
	return agent.Step{
		Name: "eviction",
		Do:   func(context.Context) error { return nil },
		Undo: func() error {
			ctx, cancel := context.WithTimeout(context.Background(), evictionPatience)
			defer cancel()
			if j.scriptGroup != 0 {
				execx.EndGroup(j.scriptGroup)
			}
			return jail.Evict(ctx, j.root)
		},
	}
}

// evictionPatience bounds the eviction; it is part of the time that a stop may take.
const evictionPatience = 5 * time.Second

// emulation lets programs of the image root's architecture run while the step is done.
func emulation(handler binfmt.Handler) agent.Step {
	var release func() // nil when there is nothing to release
	return agent.Step{
		Name: "aarch64 emulation",
		Do: func(context.Context) (err error) {
			release, err = handler.Register()
			return err
		},
		Undo: func() error {
			if release != nil {
				release()
				release = nil
			}
			return nil
		},
	}
}

// ownTree makes root the owner of a folder and of what is in it, for sshd's
// StrictModes; a folder that is not there, or cannot be changed, is none of its
// business.
func ownTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = os.Lchown(path, 0, 0)
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
			return nil
		}
		return err
	})
}

// prepareJail makes the image root fit to be a jail: sshd's rule is that every
// component of its path belongs to root and is writable by nobody else. The two
// folders that are the job's own are mended, the others are the operator's.
func (j *job) prepareJail() error {
	parent := j.cfg.ImageRootParent
	if jail.CheckPath(j.root) != nil {
		j.log.Info("making root the owner of the image root and its parent, and the parent's mode 0755", "parent", parent)
	}
	if err := errors.Join(os.Chown(parent, 0, 0), os.Chmod(parent, 0o755)); err != nil {
		return fmt.Errorf("own %s: %w", parent, err)
	}
	if err := os.Lchown(j.root, 0, 0); err != nil {
		return fmt.Errorf("own the image root: %w; unpack an image there first: buildenv prepare %s SOURCE", err, parent)
	}
	if err := jail.CheckPath(j.root); err != nil {
		return err
	}
	return j.withRoot(func(root *rootfs.Root) error { return root.MkdirAll(tmp, 0o1777) })
}
