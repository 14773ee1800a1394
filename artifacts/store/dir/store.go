package dir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"buildenv/artifacts"
)

// Store keeps a bucket's objects in a folder; New makes it. Its methods may be called from any goroutine.
type Store struct {
	root   *os.Root
	bucket string

	// mu keeps an object and its description together: it is held for reading
	// to read both and for writing to change either.
	mu sync.RWMutex
}

var _ artifacts.Store = (*Store)(nil)

// bucketName is what S3 allows: no bucket is a hidden or temporary file here.
var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

func checkBucket(bucket string) error {
	if !bucketName.MatchString(bucket) {
		return fmt.Errorf("bucket %q: %w: want 3 to 63 small letters, digits, dots and hyphens", bucket, artifacts.ErrBadKey)
	}
	if bucket == recordFolder {
		return fmt.Errorf("bucket %q: %w: records are kept there", bucket, artifacts.ErrBadKey)
	}
	return nil
}

// metadataSuffix makes an object's name that of its description.
const metadataSuffix = ".metadata.json"

// maxElement is the longest name in a folder (NAME_MAX in linux/limits.h) that
// leaves room for the suffix.
const maxElement = 255 - len(metadataSuffix)

// name is where the object under key lies, relative to the folder.
func (s *Store) name(key string) (string, error) {
	if err := artifacts.CheckKey(key); err != nil {
		return "", err
	}
	for element := range strings.SplitSeq(key, "/") {
		if len(element) > maxElement {
			return "", fmt.Errorf("%w: %d bytes between slashes, at most %d", artifacts.ErrBadKey, len(element), maxElement)
		}
		if strings.HasSuffix(element, metadataSuffix) {
			return "", fmt.Errorf("%w: %s marks descriptions of objects", artifacts.ErrBadKey, metadataSuffix)
		}
	}
	return path.Join(s.bucket, key), nil
}

// description is the file beside an object.
type description struct {
	ContentType string            `json:"content_type"`
	ETag        string            `json:"etag"`
	Metadata    map[string]string `json:"metadata"`
	Size        int64             `json:"size"`
}

func describe(o artifacts.Object) description {
	return description{"binary/octet-stream", o.ETag, o.Metadata, o.Size}
}

// Open returns an object's content.
func (s *Store) Open(_ context.Context, key string) (io.ReadCloser, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if _, err := s.stat(key); err != nil {
		return nil, fmt.Errorf("open object: %s: %w", key, err)
	}
	f, err := s.root.Open(path.Join(s.bucket, key))
	if err != nil {
		return nil, fmt.Errorf("open object: %s: %w", key, err)
	}
	return f, nil
}

// Stat describes an object.
func (s *Store) Stat(_ context.Context, key string) (artifacts.Object, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	o, err := s.stat(key)
	if err != nil {
		return artifacts.Object{}, fmt.Errorf("stat object: %s: %w", key, err)
	}
	return o, nil
}

// stat wants both files: a crash may have left one. s.mu is held.
func (s *Store) stat(key string) (artifacts.Object, error) {
	name, err := s.name(key)
	if err != nil {
		return artifacts.Object{}, err
	}
	info, err := s.root.Lstat(name)
	if absent(err) || err == nil && !info.Mode().IsRegular() {
		return artifacts.Object{}, artifacts.ErrNotFound
	}
	if err != nil {
		return artifacts.Object{}, err
	}
	var d description
	if err := readJSON(s.root, name+metadataSuffix, &d); err != nil {
		return artifacts.Object{}, err
	}
	return artifacts.Object{Key: key, ETag: d.ETag, Size: info.Size(), Metadata: d.Metadata}, nil
}

// maxJSON bounds the files that are read whole. S3 allows 2 KiB of metadata.
const maxJSON = 1 << 20

func readJSON(root *os.Root, name string, into any) error {
	f, err := root.Open(name)
	if absent(err) {
		return artifacts.ErrNotFound
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := json.NewDecoder(io.LimitReader(f, maxJSON)).Decode(into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// List describes the objects whose keys begin with prefix.
func (s *Store) List(ctx context.Context, prefix string) ([]artifacts.Object, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	objects, err := s.list(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("list objects: %s: %w", prefix, err)
	}
	return objects, nil
}

func (s *Store) list(ctx context.Context, prefix string) ([]artifacts.Object, error) {
	var objects []artifacts.Object
	err := fs.WalkDir(s.root.FS(), s.bucket, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		key := strings.TrimPrefix(strings.TrimPrefix(name, s.bucket), "/")
		if entry.IsDir() {
			return enter(key, prefix)
		}
		if !strings.HasPrefix(key, prefix) || strings.HasSuffix(key, metadataSuffix) {
			return ctx.Err()
		}
		o, err := s.stat(key)
		if errors.Is(err, artifacts.ErrNotFound) || errors.Is(err, artifacts.ErrBadKey) {
			return nil // not an object but a file that somebody else has put there
		}
		objects = append(objects, o)
		return err
	})
	if absent(err) {
		return nil, nil // a bucket is made with its first object
	}
	// A folder is walked before a name that continues its own: a/b, then a-b.
	slices.SortFunc(objects, func(a, b artifacts.Object) int { return strings.Compare(a.Key, b.Key) })
	return objects, err
}

// enter skips folders in which no key can have the prefix.
func enter(folder, prefix string) error {
	folder += "/"
	if folder == "/" || strings.HasPrefix(folder, prefix) || strings.HasPrefix(prefix, folder) {
		return nil
	}
	return fs.SkipDir
}

// Delete removes an object.
func (s *Store) Delete(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, err := s.name(key)
	if err == nil {
		err = s.drop(name)
	}
	if err != nil {
		return fmt.Errorf("delete object: %s: %w", key, err)
	}
	return nil
}

// drop removes an object and what describes it, and folders that are then
// empty. s.mu is held for writing.
func (s *Store) drop(name string) error {
	for _, file := range []string{name + metadataSuffix, name} {
		if err := remove(s.root, file); err != nil {
			return err
		}
	}
	prune(s.root, path.Dir(name))
	return nil
}

// Link names the object as it would be named in the S3 bucket of that name.
func (s *Store) Link(o artifacts.Object) artifacts.Link {
	return artifacts.Link{ETag: o.ETag, Path: "s3://" + s.bucket + "/" + o.Key, Type: "s3"}
}
