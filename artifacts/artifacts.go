// Package artifacts is the vocabulary of what goes in and out of a job: an
// image root becomes artifacts, artifacts are kept in a store, and a manifest
// lists them so that one link leads to the whole image.
//
//	image root ──► Packer ──► Artifact (rootfs, kernel, initrd, …) ──► Store
//	                                      └────► Manifest ──► Registry record
//
// It holds names, formats and contracts, no mechanism: packages below it
// (rootfs, source, squashfs, store/dir) do the work, and never import each
// other's callers.
package artifacts

import (
	"context"
	"errors"
	"io"
	"os"
)

// Kind is the media type that a manifest gives an artifact.
type Kind string

// The kinds of artifact that boot and configuration services know.
const (
	RootFS         Kind = "application/vnd.cray.image.rootfs.squashfs"
	Kernel         Kind = "application/vnd.cray.image.kernel"
	Initrd         Kind = "application/vnd.cray.image.initrd"
	DebugKernel    Kind = "application/vnd.cray.image.debug.kernel"
	BootParameters Kind = "application/vnd.cray.image.parameters.boot"
)

// Kinds are all kinds, in the order in which they are stored.
var Kinds = []Kind{RootFS, Kernel, Initrd, DebugKernel, BootParameters}

// names are the object names under an image's id.
var names = map[Kind]string{
	RootFS:         "rootfs",
	Kernel:         "kernel",
	Initrd:         "initrd",
	DebugKernel:    "debug_kernel",
	BootParameters: "boot_parameters",
}

// ObjectName is the last part of an artifact's key: "rootfs", "kernel", ….
func (k Kind) ObjectName() string { return names[k] }

// Artifact is one file of an image, ready to be stored. It holds the open file,
// not its path: a path inside an image root may lead elsewhere a moment later.
type Artifact struct {
	Kind    Kind
	Content io.ReaderAt
	Size    int64  // bytes
	MD5     string // hex, of the whole content
}

// Sentinel errors of stores and registries.
var (
	// ErrNotFound is returned when a store or registry has no such object or record.
	ErrNotFound = errors.New("not found")
	// ErrBadKey is returned for a key or bucket that could not be one: empty, absolute, or leaving its bucket.
	ErrBadKey = errors.New("invalid object key")
)

// Object describes what a store holds under a key.
type Object struct {
	Key      string
	ETag     string
	Size     int64
	Metadata map[string]string // user metadata, lower-case names
}

// Store keeps objects under keys such as "<image id>/rootfs".
type Store interface {
	// Put stores size bytes of body under key with user metadata. A reader sees
	// the whole object or none; an object that is there is replaced. body is not
	// read after Put has returned; the file of a Surrendered body may be kept.
	Put(ctx context.Context, key string, body io.ReaderAt, size int64, metadata map[string]string) (Object, error)
	// Open returns the object's content. ErrNotFound when there is none.
	Open(ctx context.Context, key string) (io.ReadCloser, error)
	// Stat describes an object. ErrNotFound when there is none.
	Stat(ctx context.Context, key string) (Object, error)
	// List describes the objects whose keys begin with prefix, sorted by key.
	List(ctx context.Context, prefix string) ([]Object, error)
	// Delete removes an object; one that is not there is no error.
	Delete(ctx context.Context, key string) error
	// Link is the address under which a manifest names the object.
	Link(o Object) Link
}

// Surrendered is a body of Store.Put whose file its owner gives up: he writes
// to it no more under any name and removes his name when he likes. A store on
// the same file system then needs neither time nor space for a copy.
type Surrendered struct {
	*os.File
	MD5 string // hex, of the content, if its owner has it: nobody then reads it again for that
}

// Image is a registry's record of an image.
type Image struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Arch string `json:"arch"`
	Link *Link  `json:"link,omitempty"`
}

// Status is a job's state as the image service spells it.
type Status string

// The statuses that a job passes through here.
const (
	StatusWaiting   Status = "waiting_on_user"
	StatusPackaging Status = "packaging_artifacts"
	StatusError     Status = "error"
	StatusSuccess   Status = "success"
)

// Registry keeps the records of images and jobs.
type Registry interface {
	// CreateImage makes a record without a link, or returns the one of that name that has none yet.
	CreateImage(ctx context.Context, name, arch string) (Image, error)
	// Image returns a record. ErrNotFound when there is none of that id.
	Image(ctx context.Context, id string) (Image, error)
	// LinkImage gives the image its manifest; from then on the image is complete.
	LinkImage(ctx context.Context, id string, manifest Link) error
	// DeleteImage removes a record; one that is not there is no error.
	DeleteImage(ctx context.Context, id string) error
	// SetJobStatus tells the job's state. An empty job id is no error: nobody is listening.
	SetJobStatus(ctx context.Context, job string, status Status) error
	// SetJobResult names the image that the job made.
	SetJobResult(ctx context.Context, job, image string) error
}

// PackOptions say how an archive is made. The zero value means the defaults.
type PackOptions struct {
	Compression string // gzip (default), zstd, xz or none
	Level       int    // 0: the compressor's default here
	BlockSize   int    // bytes, a power of two from 4 KiB to 1 MiB; 0: 128 KiB
	Processors  int    // 0: all
	// Epoch, in seconds since 1970, is the latest time that a file in the archive
	// has (SOURCE_DATE_EPOCH); nil: each file's own.
	Epoch *int64
	// Created is the archive's own time; nil: Epoch, or without that the time of
	// the newest file, so that the same root makes the same archive.
	Created *int64
	// From is the squashfs that the root was unpacked from, "" for none. What it
	// has of files that are unchanged is taken over as it is; compression and block
	// size are its own unless others are asked for, which makes it useless.
	From string
	// Record is the file that says what the files looked like when they were
	// unpacked; those that look the same are not read. "" or none: all are.
	Record string
	// Upper is the upper directory of the overlay that the root is, on top of From;
	// files that are not in it are not read. "" for a root that is no overlay. With
	// it, Record is about the archive alone.
	Upper string
	// Verify reads all files nevertheless.
	Verify  bool
	Exclude []string // paths below the root that are left out
	// Layout says where in the archive is what is taken over from From; "" is
	// LayoutCompact.
	Layout Layout
	// Unchanged is told, when the archive is complete, which of its ranges From
	// has at the same offset, sorted and apart from each other: a store that holds
	// From can copy them by itself. With LayoutCompact there are none. nil is nobody.
	Unchanged func([]Range)
	// Progress is told now and then how many of the files' bytes are packed; nil
	// for nobody. Calls do not overlap.
	Progress func(done, total int64)
}

// Layout is how an archive is arranged that is made with the help of another.
type Layout string

// The layouts.
const (
	LayoutCompact Layout = "compact" // as if there were no other archive
	// LayoutAppend leaves what is taken over at the offset that it has, puts what is
	// new behind that, and zeros where something was dropped. An archive that would
	// have too many zeros is compact instead.
	LayoutAppend Layout = "append"
)

// Range is a part of a file.
type Range struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

// Packer makes an archive of an image root.
type Packer interface {
	// Pack writes an archive of the directory root to the file dst, which must
	// not exist; on error nothing is left under that name.
	Pack(ctx context.Context, root, dst string, opts PackOptions) error
}
