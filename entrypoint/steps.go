package entrypoint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"buildenv/agent"
	"buildenv/artifacts/rootfs"
	"buildenv/internal/binfmt"
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
	if isTrue(j.cfg.EnableDKMS) {
		steps = append(steps, recordedStep(j, "mounts", rootfs.PlanMounts))
	}
	if j.cfg.Arch == "aarch64" && runtime.GOARCH != "arm64" {
		steps = append(steps, emulation(binfmt.AArch64))
	}
	return steps
}

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
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
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
