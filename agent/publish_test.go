package agent_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"buildenv/agent"
	"buildenv/artifacts"
	"buildenv/artifacts/store/dir"
)

// copier packs a root by its name: what is in the archive is not the publisher's business.
type copier struct{ err error }

func (c copier) Pack(_ context.Context, root, dst string, _ artifacts.PackOptions) error {
	if c.err != nil {
		return c.err
	}
	return os.WriteFile(dst, []byte("archive of "+root), 0o644)
}

// broken is a store that fails to put one object.
type broken struct {
	artifacts.Store
	name string
}

var errFull = errors.New("no space left on device")

func (b broken) Put(ctx context.Context, key string, body io.ReaderAt, size int64, metadata map[string]string) (artifacts.Object, error) {
	if strings.HasSuffix(key, b.name) {
		return artifacts.Object{}, errFull
	}
	return b.Store.Put(ctx, key, body, size, metadata)
}

type publication struct {
	*agent.Publisher
	folder string
	noted  string
}

func newPublication(t *testing.T) *publication {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	folder := t.TempDir()
	store, err := dir.New(folder, "boot-images", log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	p := &publication{folder: folder}
	p.Publisher = &agent.Publisher{Store: store, Registry: store, Packer: copier{}, WorkDir: t.TempDir(),
		Note: func(id string) error { p.noted = id; return nil }, Log: log}
	return p
}

func order() agent.Order {
	const kernel = "a kernel"
	return agent.Order{Root: "/root", Name: "compute", Arch: "x86_64", Job: "job-1",
		Boot: []artifacts.Artifact{{Kind: artifacts.Kernel, Content: strings.NewReader(kernel), Size: int64(len(kernel))}}}
}

// files are the regular files below the store's folder.
func (p *publication) files(t *testing.T) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(p.folder, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			names = append(names, strings.ReplaceAll(strings.TrimPrefix(path, p.folder+"/"), p.noted, "ID"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

func (p *publication) wantNothing(t *testing.T) {
	t.Helper()
	if got := p.files(t); got != "" {
		t.Errorf("the store holds %s", got)
	}
	if left, _ := os.ReadDir(p.WorkDir); len(left) > 0 {
		t.Errorf("the work folder holds %v", left)
	}
}

func TestPublish(t *testing.T) {
	p := newPublication(t)
	result, err := p.Publish(t.Context(), order())
	if err != nil {
		t.Fatal(err)
	}
	if result.Image.ID != p.noted || result.Image.Link == nil || len(result.Manifest.Artifacts) != 2 {
		t.Errorf("result %+v, noted %q", result, p.noted)
	}
	const want = "boot-images/ID/kernel boot-images/ID/kernel.metadata.json boot-images/ID/manifest.json " +
		"boot-images/ID/manifest.json.metadata.json boot-images/ID/rootfs boot-images/ID/rootfs.metadata.json " +
		"ims/images/ID.json ims/jobs/job-1.json"
	if got := p.files(t); got != want {
		t.Errorf("the store holds\n%s\nwant\n%s", got, want)
	}
	object, err := p.Store.Stat(t.Context(), p.noted+"/rootfs")
	if err != nil || object.Metadata["x-shasta-ims-image-name"] != "compute" || object.Metadata["x-shasta-ims-job-id"] != "job-1" ||
		object.Metadata["x-shasta-ims-image-id"] != p.noted || object.Metadata["md5sum"] != result.Manifest.Artifacts[0].MD5 {
		t.Errorf("metadata %v, %v", object.Metadata, err)
	}
}

func TestPublicationThatFailsLeavesNothing(t *testing.T) {
	for name, fail := range map[string]func(*publication){
		"packing":      func(p *publication) { p.Packer = copier{errFull} },
		"first object": func(p *publication) { p.Store = broken{p.Store, "rootfs"} },
		"last object":  func(p *publication) { p.Store = broken{p.Store, "kernel"} },
		"manifest":     func(p *publication) { p.Store = broken{p.Store, artifacts.ManifestName} },
		"changes": func(p *publication) {
			p.Pack.From, p.Changes, p.Store = "base.squashfs", telling(nil), broken{p.Store, artifacts.ChangesName}
		},
		"note": func(p *publication) { p.Note = func(string) error { return errFull } },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPublication(t)
			fail(p)
			if _, err := p.Publish(t.Context(), order()); !errors.Is(err, errFull) {
				t.Errorf("error %v", err)
			}
			p.wantNothing(t)
		})
	}
}

func TestRecover(t *testing.T) {
	t.Run("a complete image is finished", func(t *testing.T) {
		p := newPublication(t)
		published, err := p.Publish(t.Context(), order())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(p.folder, "ims/jobs/job-1.json")); err != nil {
			t.Fatal(err)
		}
		result, err := p.Recover(t.Context(), p.noted, "job-1")
		if err != nil || result == nil || result.Image.ID != published.Image.ID || len(result.Manifest.Artifacts) != 2 {
			t.Fatalf("%+v, %v", result, err)
		}
		if got := p.files(t); !strings.Contains(got, "ims/jobs/job-1.json") {
			t.Errorf("the job has no record: %s", got)
		}
	})
	t.Run("half an image is removed", func(t *testing.T) {
		p := newPublication(t)
		if _, err := p.Publish(t.Context(), order()); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"ims/images/" + p.noted + ".json", "ims/jobs/job-1.json",
			"boot-images/" + p.noted + "/kernel.metadata.json"} { // killed between the two files of an object
			if err := os.Remove(filepath.Join(p.folder, name)); err != nil {
				t.Fatal(err)
			}
		}
		if result, err := p.Recover(t.Context(), p.noted, "job-1"); result != nil || err != nil {
			t.Fatalf("%+v, %v", result, err)
		}
		p.wantNothing(t)
	})
}
