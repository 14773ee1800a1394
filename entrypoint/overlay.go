package entrypoint

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/spf13/pflag"

	"buildenv/agent"
	"buildenv/artifacts/rootfs"
	"buildenv/artifacts/source"
	"buildenv/artifacts/squashfs"
)

// rootMode is the flag --root-mode.
type rootMode struct{ *source.Mode }

func (m rootMode) Type() string   { return "MODE" }
func (m rootMode) String() string { return string(*m.Mode) }

func (m rootMode) Set(text string) error {
	switch mode := source.Mode(text); mode {
	case source.ModeAuto, source.ModeOverlay, source.ModeUnpack:
		*m.Mode = mode
		return nil
	}
	return errors.New("must be auto, overlay or unpack")
}

func registerRootMode(flags *pflag.FlagSet, mode *source.Mode, unless source.Mode) {
	*mode = unless
	flags.Var(rootMode{mode}, "root-mode", "unpack the image root; overlay: mount the squashfs and put a layer for changes on top, which needs SYS_ADMIN; auto: overlay where that can be done")
}

// attachRoot mounts an image root that is an overlay, unless it is mounted: its
// mounts may have ended with another process's mount namespace, or with the
// machine. detach takes them away; nobody else mounts the layers before that. Of
// any other root it does nothing.
func attachRoot(root string) (detach func() error, err error) {
	o := source.OverlayOf(root)
	if !o.Exists() {
		return func() error { return nil }, nil
	}
	release, err := agent.Lock(o.Layers)
	if err != nil {
		return nil, err
	}
	mounted, err := o.Mounted()
	if err == nil && !mounted {
		err = mountAgain(o)
	}
	if err != nil {
		release()
		return nil, fmt.Errorf("the image root is an overlay: %w", err)
	}
	return func() error {
		defer release()
		return o.Unmount()
	}, nil
}

func mountAgain(o rootfs.Overlay) error {
	_, record := source.Kept(o.Root)
	if err := squashfs.CheckLower(o.Archive, record); err != nil {
		return err
	}
	return o.Mount()
}

// attachToPackage is attachRoot for a root that may have been mounted by somebody
// who wants it to be: then it stays mounted.
func attachToPackage(root string) (detach func() error, err error) {
	o := source.OverlayOf(root)
	mounted, err := o.Mounted()
	if err != nil {
		return nil, err
	}
	if !mounted {
		return attachRoot(root)
	}
	release, err := agent.Lock(o.Layers)
	return func() error {
		release()
		return nil
	}, err
}

// unmountLeft takes away what a killed process has left mounted of an image root
// that is an overlay. Nobody may be at work on it.
func unmountLeft(root string) error {
	o := source.OverlayOf(root)
	if !o.Exists() {
		return nil
	}
	release, err := agent.Lock(o.Layers)
	if err != nil {
		return err
	}
	defer release()
	return o.Unmount()
}

// mustShow fails for an overlay that is not mounted here: there is an empty folder
// in its place, or something else on top.
func mustShow(root string) error {
	o := source.OverlayOf(root)
	if !o.Exists() {
		return nil
	}
	mounted, err := o.Mounted()
	if err == nil && !mounted {
		err = fmt.Errorf("%s: the image root is an overlay, and is not mounted here, or hidden", root)
	}
	return err
}

// detaching is what to do with detach at the end of a job that ended with *err.
func detaching(detach func() error, err *error) {
	if problem := detach(); problem != nil {
		*err = errors.Join(*err, fmt.Errorf("the image root stays mounted: %w", problem))
	}
}

// errForeignOverlay is why there is no job in the role environment.
var errForeignOverlay = errors.New("the image root is an overlay, which the sidecar could not see from its container: prepare it with --root-mode unpack, or use the role standalone")

// attach mounts the job's image root if it is an overlay.
func (j *job) attach() (detach func() error, err error) {
	if j.cfg.Role == roleEnvironment && source.OverlayOf(j.root).Exists() {
		return nil, errForeignOverlay
	}
	return attachRoot(j.root)
}

// sweepMounts takes away what killed processes have left mounted in the folders
// that are made for jobs. Their work stays.
func sweepMounts(log *slog.Logger) {
	left, _ := filepath.Glob(filepath.Join(varDir, jobPrefix+"*")) // the pattern is a good one
	for _, dir := range left {
		if err := sweep(dir); err != nil && !errors.Is(err, agent.ErrBusy) {
			log.Warn("mounts of an earlier job are left", "folder", dir, "error", err)
		}
	}
}

func sweep(dir string) error {
	release, err := agent.Lock(dir)
	if err != nil {
		return err
	}
	defer release()
	return unmountLeft(filepath.Join(dir, imageRoot))
}

// jobPrefix begins the names of folders that are made for jobs.
const jobPrefix = "job-"
