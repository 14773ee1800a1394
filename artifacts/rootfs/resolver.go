package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// Where the resolver configuration lies, and where the image's own waits
// meanwhile (the place that administrators know from earlier jobs).
const (
	resolvConf = "etc/resolv.conf"
	setAside   = "tmp/resolv.conf"
)

// Resolver lends an image root the container's resolv.conf, so that names
// resolve in it while a job runs.
//
// The image's own file, be it a file or a link, is moved to tmp/resolv.conf in
// the root; the record keeps a copy in case somebody empties /tmp.
type Resolver struct {
	Content  []byte   `json:"content"`  // what is put into etc/resolv.conf
	Original saved    `json:"original"` // what was there
	Aside    string   `json:"aside"`    // where it is put, in the root
	Made     []string `json:"made"`     // directories that the root lacks
}

// PlanResolver records what Put of content would change. It changes nothing.
// Content has a bound of 64 KiB, as resolv.conf(5) needs far less.
func PlanResolver(r *Root, content []byte) (Resolver, error) {
	if len(content) > maxSaved {
		return Resolver{}, fmt.Errorf("plan resolv.conf: more than %d bytes", maxSaved)
	}
	original, err := save(r, resolvConf)
	if err != nil {
		return Resolver{}, fmt.Errorf("plan resolv.conf: %w", err)
	}
	v := Resolver{Content: content, Original: original}
	for _, dir := range []string{"etc", "tmp"} {
		missing, err := r.missing(dir)
		if err != nil {
			return Resolver{}, fmt.Errorf("plan resolv.conf: %w", err)
		}
		v.Made = append(v.Made, missing...)
	}
	v.Aside, err = freeName(r, setAside)
	if err != nil {
		return Resolver{}, fmt.Errorf("plan resolv.conf: %w", err)
	}
	return v, nil
}

// freeName is name, or name with the first number that makes it free: the
// image may hold a file of that name, which is not ours to lose.
func freeName(r *Root, name string) (string, error) {
	for i := range 100 {
		free := name
		if i > 0 {
			free = fmt.Sprintf("%s.%d", name, i)
		}
		if _, err := r.Lstat(free); errors.Is(err, fs.ErrNotExist) {
			return free, nil
		} else if err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("%q: %w: remove the copies that earlier jobs left", name, fs.ErrExist)
}

// Put sets the original aside and puts the content in its place. Once done, it
// does nothing when called again.
func (v Resolver) Put(r *Root) error {
	if ours, err := holds(r, resolvConf, v.Content); err != nil || ours {
		return err
	}
	for _, dir := range v.Made {
		mode := uint32(0o755)
		if dir == "tmp" {
			mode = 0o1777
		}
		if err := r.Mkdir(dir, mode); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := v.moveAside(r); err != nil {
		return err
	}
	return r.WriteFile(resolvConf, bytes.NewReader(v.Content), Meta{Mode: 0o644, Mtime: Now})
}

// moveAside leaves an original alone that has been moved before. An original
// on another file system than tmp cannot be moved; the record's copy stands in.
func (v Resolver) moveAside(r *Root) error {
	if v.Original.absent() {
		return nil
	}
	if _, err := r.Lstat(v.Aside); err == nil {
		return nil
	}
	err := r.Rename(resolvConf, v.Aside)
	if errors.Is(err, unix.EXDEV) && v.Original.Whole {
		return v.Original.recreate(r, v.Aside)
	}
	return err
}

// Restore takes the content out again. When it is still exactly ours, or gone,
// the original comes back; when the user has changed or replaced it, the user's
// stays and the original goes. Once done, it does nothing when called again.
func (v Resolver) Restore(r *Root) error {
	now, err := save(r, resolvConf)
	if err != nil && !gone(err) {
		return fmt.Errorf("restore resolv.conf: %w", err)
	}
	ours := now.Mode&unix.S_IFMT == unix.S_IFREG && now.Whole && bytes.Equal(now.Content, v.Content)
	if (ours || now.absent()) && !now.same(v.Original) {
		err = v.bringBack(r)
	} else {
		err = v.dropAside(r)
	}
	if err == nil {
		err = removeEmpty(r, v.Made)
	}
	if err != nil {
		return fmt.Errorf("restore resolv.conf: %w", err)
	}
	return nil
}

// bringBack prefers the file that was set aside, which has everything that a
// record cannot hold, unless somebody has changed it there.
func (v Resolver) bringBack(r *Root) error {
	if v.Original.absent() {
		return removeIfThere(r, resolvConf)
	}
	if err := r.MkdirAll("etc", 0o755); err != nil {
		return err
	}
	aside, err := save(r, v.Aside)
	if err != nil && !gone(err) {
		return err
	}
	if !aside.absent() && (aside.same(v.Original) || !v.Original.Whole) {
		if err := removeIfThere(r, resolvConf); err != nil { // a directory replaces no file
			return err
		}
		return r.Rename(v.Aside, resolvConf)
	}
	if err := v.Original.recreate(r, resolvConf); err != nil {
		return err
	}
	return v.dropAside(r)
}

// dropAside removes what was set aside, and nothing that the job did not put there.
func (v Resolver) dropAside(r *Root) error {
	if v.Original.absent() {
		return nil
	}
	return removeIfThere(r, v.Aside)
}
