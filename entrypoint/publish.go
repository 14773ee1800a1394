package entrypoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"buildenv/agent"
	"buildenv/artifacts"
	"buildenv/artifacts/rootfs"
	"buildenv/artifacts/squashfs"
	"buildenv/internal/progress"
)

// bootNames are the files in an image root's /boot that become artifacts.
type bootNames struct{ kernel, initrd, parameters string }

func (j *job) publisher(st store, pack artifacts.PackOptions) *agent.Publisher {
	return &agent.Publisher{
		Store:    st.objects,
		Registry: st.registry,
		Packer:   squashfs.Packer{Log: j.log},
		Pack:     j.cfg.packOptions(pack),
		Changes:  comparing(j.log),
		WorkDir:  j.cfg.ImageRootParent,
		Log:      j.log,
	}
}

// publish makes the image of the job's root.
func (j *job) publish(ctx context.Context, p *agent.Publisher) (agent.Result, error) {
	names := bootNames{j.cfg.KernelFilename, j.cfg.InitrdFilename, j.cfg.ParametersName}
	order := agent.Order{Root: j.root, Name: j.cfg.ImageName, Arch: j.cfg.Arch, Job: j.cfg.JobID}
	if err := errors.Join(j.withRoot(clearMarkers), j.withRoot(rootfs.SecureImageDir)); err != nil {
		return agent.Result{}, err
	}
	return publishRoot(ctx, j.stderr, p, order, names)
}

// publishRoot makes an image of an image root whose boot files have these names,
// and shows on stderr how far it is.
func publishRoot(ctx context.Context, stderr io.Writer, p *agent.Publisher, order agent.Order, names bootNames) (agent.Result, error) {
	if err := mustShow(order.Root); err != nil { // users with privileges can unmount it, or mount on it
		return agent.Result{}, err
	}
	root, err := rootfs.Open(order.Root)
	if err != nil {
		return agent.Result{}, err
	}
	defer root.Close()
	boot, err := rootfs.Boot(root, names.kernel, names.initrd, names.parameters)
	if err != nil {
		return agent.Result{}, err
	}
	defer boot.Close()
	if order.Boot, err = bootArtifacts(boot); err != nil {
		return agent.Result{}, err
	}
	order.Root = root.Path()
	meter := progress.Start(stderr, p.Log, "packaging", 0)
	defer meter.Done()
	p.Pack = reusing(p.Pack, order.Root)
	p.Pack.Progress = meter.Of
	return p.Publish(ctx, order)
}

// bootArtifacts are the boot files in the order in which they are stored.
func bootArtifacts(boot rootfs.BootFiles) ([]artifacts.Artifact, error) {
	var list []artifacts.Artifact
	for _, file := range []struct {
		kind artifacts.Kind
		*os.File
	}{{artifacts.Kernel, boot.Kernel}, {artifacts.Initrd, boot.Initrd}, {artifacts.BootParameters, boot.Parameters}} {
		if file.File == nil {
			continue
		}
		info, err := file.Stat()
		if err != nil {
			return nil, fmt.Errorf("look at %s: %w", file.kind.ObjectName(), err)
		}
		list = append(list, artifacts.Artifact{Kind: file.kind, Content: file.File, Size: info.Size()})
	}
	return list, nil
}
