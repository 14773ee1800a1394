package dir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"strings"
	"sync"

	"buildenv/artifacts"

	"github.com/google/uuid"
)

// recordFolder is the folder of records beside the buckets.
const recordFolder = "ims"

// Registry keeps records of finished work; New makes it. What is not finished is not
// written: an image is known to this process only until it is linked, and of a
// job's states only its success is kept, so a job that fails leaves nothing.
// Its methods may be called from any goroutine.
type Registry struct {
	root *os.Root
	log  *slog.Logger

	// mu protects reserved, and the reading and writing of a record as one.
	mu       sync.Mutex
	reserved map[string]artifacts.Image // images without a link, by id
}

var _ artifacts.Registry = (*Registry)(nil)

// CreateImage reserves an id.
func (r *Registry) CreateImage(_ context.Context, name, arch string) (artifacts.Image, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, image := range r.reserved {
		if image.Name == name && image.Arch == arch {
			return image, nil
		}
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return artifacts.Image{}, fmt.Errorf("create image: %s: %w", name, err)
	}
	image := artifacts.Image{ID: id.String(), Name: name, Arch: arch}
	r.reserved[image.ID] = image
	return image, nil
}

// Image returns the record of an image that is complete.
func (r *Registry) Image(_ context.Context, id string) (image artifacts.Image, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name, err := record("images", id)
	if err == nil {
		err = readJSON(r.root, name, &image)
	}
	if err != nil {
		return artifacts.Image{}, fmt.Errorf("look up image: %s: %w", id, err)
	}
	return image, nil
}

// LinkImage writes the record.
func (r *Registry) LinkImage(_ context.Context, id string, manifest artifacts.Link) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.link(id, manifest); err != nil {
		return fmt.Errorf("link image: %s: %w", id, err)
	}
	delete(r.reserved, id)
	return nil
}

func (r *Registry) link(id string, manifest artifacts.Link) error {
	name, err := record("images", id)
	if err != nil {
		return err
	}
	image, reserved := r.reserved[id]
	if !reserved {
		if err := readJSON(r.root, name, &image); err != nil {
			return err
		}
	}
	image.Link = &manifest
	return r.write(name, image)
}

// DeleteImage removes a record or gives a reserved id up.
func (r *Registry) DeleteImage(_ context.Context, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.reserved, id)
	name, err := record("images", id)
	if err == nil {
		err = remove(r.root, name)
	}
	if err != nil {
		return fmt.Errorf("delete image: %s: %w", id, err)
	}
	return nil
}

// jobRecord is what is kept of a job.
type jobRecord struct {
	ID     string           `json:"id"`
	Image  string           `json:"resultant_image_id,omitempty"`
	Status artifacts.Status `json:"status,omitempty"`
}

// SetJobStatus logs the status and keeps success.
func (r *Registry) SetJobStatus(_ context.Context, job string, status artifacts.Status) error {
	if job == "" {
		return nil
	}
	r.log.Info("job status", "job", job, "status", status)
	if status != artifacts.StatusSuccess {
		return nil
	}
	return r.changeJob(job, func(j *jobRecord) { j.Status = status })
}

// SetJobResult keeps the image that the job made.
func (r *Registry) SetJobResult(_ context.Context, job, image string) error {
	if job == "" {
		return nil
	}
	return r.changeJob(job, func(j *jobRecord) { j.Image = image })
}

func (r *Registry) changeJob(id string, change func(*jobRecord)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	name, err := record("jobs", id)
	j := jobRecord{ID: id}
	if err == nil {
		err = readJSON(r.root, name, &j)
	}
	if err == nil || errors.Is(err, artifacts.ErrNotFound) {
		change(&j)
		err = r.write(name, j)
	}
	if err != nil {
		return fmt.Errorf("record job: %s: %w", id, err)
	}
	return nil
}

func (r *Registry) write(name string, value any) error {
	text, err := json.MarshalIndent(value, "", "    ")
	if err != nil {
		return err
	}
	return writeFile(r.root, name, append(text, '\n'))
}

// record is where a record lies. Ids come from the job's environment.
func record(kind, id string) (string, error) {
	if err := artifacts.CheckKey(id); err != nil {
		return "", err
	}
	if strings.Contains(id, "/") || len(id) > maxElement {
		return "", fmt.Errorf("%w: %q is no id", artifacts.ErrBadKey, id)
	}
	return path.Join(recordFolder, kind, id+".json"), nil
}
