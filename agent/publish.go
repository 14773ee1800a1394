package agent

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"buildenv/artifacts"
)

// Publisher makes an image of an image root: archive, objects, manifest, record.
type Publisher struct {
	Store    artifacts.Store
	Registry artifacts.Registry
	Packer   artifacts.Packer
	Pack     artifacts.PackOptions
	// Changes tells what a root does not have as Pack.From has it; the report goes
	// beside the manifest. nil: nobody wants one.
	Changes func(ctx context.Context, root string, pack artifacts.PackOptions, visit func(artifacts.Change) error) error
	// WorkDir holds the archive until it is stored; it needs room for the whole of it.
	WorkDir string
	// Note is told the image's id as soon as there is one, so that a restarted
	// job can clean up after this one; nil for nobody.
	Note func(id string) error
	Log  *slog.Logger
}

// Order is what is to be published.
type Order struct {
	Root string               // the image root
	Boot []artifacts.Artifact // kernel, initrd and perhaps parameters, in this order
	Name string
	Arch string
	Job  string // "" for none
}

// Result is a published image.
type Result struct {
	Image     artifacts.Image    `json:"image"`
	Manifest  artifacts.Manifest `json:"manifest"`
	SizeBytes int64              `json:"size_bytes"` // all artifacts together
	// Changes are counted if there is a report of them, else nil.
	Changes *artifacts.ChangeTotals `json:"changes,omitempty"`
}

// archiveFolder is where in WorkDir the archive is made. It is removed before
// and after: a killed agent leaves half an archive under a temporary name.
const archiveFolder = ".buildenv-archive"

// Publish packs and stores the image and registers it last, so that nothing half
// done is ever found by name. What it stored is removed when it fails.
func (p *Publisher) Publish(ctx context.Context, order Order) (Result, error) {
	rootfs, err := p.archive(ctx, order.Root)
	if err != nil {
		return Result{}, err
	}
	defer rootfs.remove()
	changes, err := p.compare(ctx, order.Root)
	if err != nil {
		return Result{}, err
	}
	image, err := p.Registry.CreateImage(ctx, order.Name, order.Arch)
	if err != nil {
		return Result{}, fmt.Errorf("create image record: %w", err)
	}
	if p.Note != nil {
		if err := p.Note(image.ID); err != nil {
			return Result{}, err
		}
	}
	err = changes.store(ctx, p, image.ID)
	var result Result
	if err == nil {
		result, err = p.store(ctx, order, image, append([]artifacts.Artifact{rootfs.Artifact}, order.Boot...))
	}
	if err != nil {
		return Result{}, errors.Join(err, p.Discard(context.WithoutCancel(ctx), image.ID))
	}
	if changes != nil {
		result.Changes = &changes.totals
	}
	return result, nil
}

// Recover looks at an image that was being published when this process's
// predecessor was killed. One that is linked is complete: what was left to do
// is done, and it is returned. Of any other nothing is left, and nil returned.
func (p *Publisher) Recover(ctx context.Context, id, job string) (*Result, error) {
	image, err := p.Registry.Image(ctx, id)
	if errors.Is(err, artifacts.ErrNotFound) || err == nil && image.Link == nil {
		return nil, p.Discard(ctx, id)
	}
	if err != nil {
		return nil, fmt.Errorf("look up image %s: %w", id, err)
	}
	result := &Result{Image: image}
	if result.Manifest, err = p.readManifest(ctx, id); err != nil {
		return nil, err
	}
	return result, p.finish(ctx, job, id)
}

// maxManifest bounds a manifest that is read back, in bytes.
const maxManifest = 1 << 20

func (p *Publisher) readManifest(ctx context.Context, id string) (m artifacts.Manifest, err error) {
	key := id + "/" + artifacts.ManifestName
	object, err := p.Store.Open(ctx, key)
	if err != nil {
		return m, fmt.Errorf("read %s: %w", key, err)
	}
	defer object.Close()
	if err := json.NewDecoder(io.LimitReader(object, maxManifest)).Decode(&m); err != nil {
		return m, fmt.Errorf("read %s: %w", key, err)
	}
	return m, nil
}

// Discard removes an image's objects and then its record: what is left of a
// publication that did not succeed. Objects of the known names go whether they
// are listed or not, for half of one may not be.
func (p *Publisher) Discard(ctx context.Context, id string) error {
	objects, err := p.Store.List(ctx, id+"/")
	if err != nil {
		return fmt.Errorf("clean up image %s: %w", id, err)
	}
	keys := []string{id + "/" + artifacts.ManifestName, id + "/" + artifacts.ChangesName}
	for _, kind := range artifacts.Kinds {
		keys = append(keys, id+"/"+kind.ObjectName())
	}
	for _, object := range objects {
		keys = append(keys, object.Key)
	}
	for _, key := range keys {
		if err := p.Store.Delete(ctx, key); err != nil {
			return fmt.Errorf("clean up image %s: %w", id, err)
		}
	}
	if err := p.Registry.DeleteImage(ctx, id); err != nil {
		return fmt.Errorf("clean up image %s: %w", id, err)
	}
	return nil
}

// archived is the packed root, open until it is removed.
type archived struct {
	artifacts.Artifact
	file *os.File
}

func (a archived) remove() {
	a.file.Close()
	os.RemoveAll(filepath.Dir(a.file.Name()))
}

func (p *Publisher) archive(ctx context.Context, root string) (archived, error) {
	folder := filepath.Join(p.WorkDir, archiveFolder)
	if err := errors.Join(os.RemoveAll(folder), os.Mkdir(folder, 0o700)); err != nil {
		return archived{}, fmt.Errorf("make a folder for the archive: %w", err)
	}
	path := filepath.Join(folder, "rootfs.sqsh")
	if err := p.Packer.Pack(ctx, root, path, p.Pack); err != nil {
		os.RemoveAll(folder)
		return archived{}, err
	}
	return openArchive(path)
}

func openArchive(path string) (archived, error) {
	f, err := os.Open(path)
	if err != nil {
		return archived{}, fmt.Errorf("open archive: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return archived{}, fmt.Errorf("open archive: %w", err)
	}
	return archived{artifacts.Artifact{Kind: artifacts.RootFS, Content: artifacts.Surrendered{File: f}, Size: info.Size()}, f}, nil
}

// store puts the artifacts and then the manifest under the image's id, and links
// the record to it.
func (p *Publisher) store(ctx context.Context, order Order, image artifacts.Image, files []artifacts.Artifact) (Result, error) {
	result := Result{Image: image, Manifest: artifacts.NewManifest(time.Now().UTC())}
	for _, a := range files {
		var err error
		if a.MD5, err = digest(a); err != nil {
			return Result{}, err
		}
		if own, ok := a.Content.(artifacts.Surrendered); ok {
			own.MD5 = a.MD5
			a.Content = own
		}
		key := image.ID + "/" + a.Kind.ObjectName()
		object, err := p.Store.Put(ctx, key, a.Content, a.Size, map[string]string{
			"md5sum":                  a.MD5,
			"x-shasta-ims-image-name": image.Name,
			"x-shasta-ims-image-id":   image.ID,
			"x-shasta-ims-job-id":     order.Job,
		})
		if err != nil {
			return Result{}, fmt.Errorf("store %s: %w", key, err)
		}
		p.Log.Info("stored", "key", key, "bytes", a.Size, "md5", a.MD5)
		result.Manifest.Add(a, p.Store.Link(object))
		result.SizeBytes += a.Size
	}
	return result, p.register(ctx, order.Job, &result)
}

func (p *Publisher) register(ctx context.Context, job string, result *Result) error {
	link, err := p.putManifest(ctx, result)
	if err != nil {
		return err
	}
	if err := p.Registry.LinkImage(ctx, result.Image.ID, link); err != nil {
		return fmt.Errorf("link image %s: %w", result.Image.ID, err)
	}
	result.Image.Link = &link
	return p.finish(ctx, job, result.Image.ID)
}

// finish names the image in the job's record, the last thing of all.
func (p *Publisher) finish(ctx context.Context, job, image string) error {
	if job == "" {
		return nil
	}
	if err := p.Registry.SetJobResult(ctx, job, image); err != nil {
		return fmt.Errorf("set result of job %s: %w", job, err)
	}
	return nil
}

func (p *Publisher) putManifest(ctx context.Context, result *Result) (artifacts.Link, error) {
	text, err := result.Manifest.Encode()
	if err != nil {
		return artifacts.Link{}, err
	}
	sum := md5.Sum(text)
	key := result.Image.ID + "/" + artifacts.ManifestName
	object, err := p.Store.Put(ctx, key, strings.NewReader(string(text)), int64(len(text)),
		map[string]string{"md5sum": hex.EncodeToString(sum[:])})
	if err != nil {
		return artifacts.Link{}, fmt.Errorf("store %s: %w", key, err)
	}
	return p.Store.Link(object), nil
}

// digest is the MD5 that readers of manifests check an artifact with.
func digest(a artifacts.Artifact) (string, error) {
	h := md5.New()
	if _, err := io.Copy(h, io.NewSectionReader(a.Content, 0, a.Size)); err != nil {
		return "", fmt.Errorf("read %s: %w", a.Kind.ObjectName(), err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
