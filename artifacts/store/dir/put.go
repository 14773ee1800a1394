package dir

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"buildenv/artifacts"

	"golang.org/x/sys/unix"
)

// Put stores an object. The file of a Surrendered body is linked into the
// folder where the file system allows that; everything else is copied, because
// an object may change with nobody's file but its own.
func (s *Store) Put(ctx context.Context, key string, body io.ReaderAt, size int64, metadata map[string]string) (artifacts.Object, error) {
	o := artifacts.Object{Key: key, Size: size, Metadata: lowerNames(metadata)}
	err := s.put(ctx, &o, body)
	if err != nil {
		return artifacts.Object{}, fmt.Errorf("put object: %s: %w", key, err)
	}
	return o, nil
}

func (s *Store) put(ctx context.Context, o *artifacts.Object, body io.ReaderAt) error {
	name, err := s.name(o.Key)
	if err != nil {
		return err
	}
	object, err := s.receive(ctx, o, body)
	if err != nil {
		return err
	}
	defer object.discard()
	text, err := json.MarshalIndent(describe(*o), "", "    ")
	if err != nil {
		return err
	}
	metadata, err := stage(s.root, text)
	if err != nil {
		return err
	}
	defer metadata.discard()
	return s.publish(ctx, name, object, metadata)
}

// publish makes an object visible, or nothing.
func (s *Store) publish(ctx context.Context, name string, object, metadata *pending) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := object.commit(name); err != nil {
		return err
	}
	if err := metadata.commit(name + metadataSuffix); err != nil {
		s.drop(name)
		return err
	}
	return nil
}

// receive brings the content into the folder and sets the object's ETag; the
// content is read once, or not at all if it is there and its digest is known.
func (s *Store) receive(ctx context.Context, o *artifacts.Object, body io.ReaderAt) (*pending, error) {
	hash := md5.New()
	content := &cancelReader{ctx, io.NewSectionReader(body, 0, o.Size)}
	file, linked, err := s.open(body, o.Size)
	if err != nil {
		return nil, err
	}
	own, _ := body.(artifacts.Surrendered)
	known := linked && own.MD5 != ""
	var sink io.Writer = hash
	if !linked {
		sink = io.MultiWriter(file, hash)
	}
	if !known {
		var n int64
		n, err = io.Copy(sink, content)
		if err == nil && n < o.Size {
			err = fmt.Errorf("%d of %d bytes: %w", n, o.Size, io.ErrUnexpectedEOF)
		}
	}
	if err == nil {
		err = file.Sync()
	}
	if err != nil {
		file.discard()
		return nil, err
	}
	if o.ETag = own.MD5; !known {
		o.ETag = hex.EncodeToString(hash.Sum(nil))
	}
	return file, nil
}

// open is the file that the object will be: the body's own when it may be
// taken over, else an empty one.
func (s *Store) open(body io.ReaderAt, size int64) (file *pending, linked bool, err error) {
	if own, ok := body.(artifacts.Surrendered); ok {
		if file, err := s.link(own.File, size); err == nil {
			return file, true, nil
		}
	}
	file, err = create(s.root)
	return file, false, err
}

// link gives a file a second, temporary name in the folder. It fails on
// another file system, and then nothing is lost but the short way.
func (s *Store) link(f *os.File, size int64) (*pending, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() != size {
		return nil, os.ErrInvalid
	}
	folder, err := s.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	// By descriptor, since the file's name may be another file's by now:
	// linkat(2) describes this use of /proc.
	name, source := newName(), fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	if err := unix.Linkat(unix.AT_FDCWD, source, int(folder.Fd()), name, unix.AT_SYMLINK_FOLLOW); err != nil {
		return nil, err
	}
	file, err := s.root.Open(name)
	if err == nil {
		err = file.Chmod(0o644)
	}
	if err != nil {
		s.root.Remove(name)
		return nil, err
	}
	return &pending{file, s.root, name}, nil
}

// cancelReader ends a copy with its context.
type cancelReader struct {
	ctx context.Context
	io.Reader
}

func (r *cancelReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

func lowerNames(metadata map[string]string) map[string]string {
	lower := make(map[string]string, len(metadata))
	for name, value := range metadata {
		lower[strings.ToLower(name)] = value
	}
	return lower
}
