// Package dir keeps artifacts and records in a folder: a store for a machine
// that has no object store and no image service.
//
//	DIR/<bucket>/<key>                 an object
//	DIR/<bucket>/<key>.metadata.json   its ETag, size, content type and user metadata
//	DIR/ims/images/<id>.json           an image record, once the image is complete
//	DIR/ims/jobs/<id>.json             a job record, once the job has a result
//
// A bucket's folder can be synchronized to an S3 bucket as it is, so links say
// s3://<bucket>/<key>.
//
// Files are written under a temporary name in DIR, made durable and renamed;
// whoever opens the folder alone removes what a killed process has left of them.
// All access goes through [os.Root]: neither a key nor a link planted in the
// folder leads out of it. One process writes to a folder at a time; others may
// read.
package dir

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"

	"buildenv/artifacts"
)

// Path is the folder that an address of the form file:///DIR names.
func Path(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", fmt.Errorf("store address: %w", err)
	}
	if u.Scheme != "file" || u.Host != "" && u.Host != "localhost" || !filepath.IsAbs(u.Path) || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("store address: %s: want file:///DIR with an absolute path", address)
	}
	return filepath.Clean(u.Path), nil
}

// Folder is a store and a registry in one folder.
type Folder struct {
	*Store
	*Registry
	root *os.Root
	lock *os.File // shared by all who have the folder open
}

// New opens the folder dir, which is made when it is missing, to keep objects
// in a bucket and records. The statuses of jobs go to log.
func New(dir, bucket string, log *slog.Logger) (*Folder, error) {
	if err := checkBucket(bucket); err != nil {
		return nil, fmt.Errorf("open store: %s: %w", dir, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	lock, err := claim(root)
	if err != nil {
		root.Close()
		return nil, fmt.Errorf("open store: %s: %w", dir, err)
	}
	store := &Store{root: root, bucket: bucket}
	registry := &Registry{root: root, log: log, reserved: map[string]artifacts.Image{}}
	return &Folder{store, registry, root, lock}, nil
}

// Close gives the folder back; its store and registry are of no use after it.
func (f *Folder) Close() error { return errors.Join(f.lock.Close(), f.root.Close()) }
