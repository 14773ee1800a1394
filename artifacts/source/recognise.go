package source

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"

	"buildenv/artifacts/squashfs"
	"github.com/klauspost/compress/zstd"
)

// kind is what a source turns out to be.
type kind int

const (
	directory kind = iota
	plainTar       // or something unknown: only the tar reader can tell
	gzipTar
	zstdTar
	squashfsFile
)

var magics = map[kind][]byte{
	gzipTar: {0x1f, 0x8b},             // RFC 1952 section 2.3.1
	zstdTar: {0x28, 0xb5, 0x2f, 0xfd}, // RFC 8878 section 3.1.1
}

// decompressors are what a tar archive is read through.
var decompressors = map[kind]func(io.Reader) (io.ReadCloser, error){
	plainTar: func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(r), nil },
	gzipTar:  func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) },
	zstdTar:  openZstd,
}

// ErrUnknownFormat is returned for a file that is none of the kinds of image.
var ErrUnknownFormat = errors.New("neither a directory nor a squashfs nor a tar archive, plain or compressed by gzip or zstd")

// recognise looks at what a path is and at its first bytes.
func recognise(src string) (kind, error) {
	info, err := os.Stat(src)
	if err != nil {
		return 0, err
	}
	if info.IsDir() {
		return directory, nil
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("%w: not a regular file", ErrUnknownFormat)
	}
	f, err := os.Open(src)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return recogniseContent(f)
}

func recogniseContent(r io.ReaderAt) (kind, error) {
	head := make([]byte, 4)
	n, err := r.ReadAt(head, 0)
	if n == 0 && errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("%w: the file is empty", ErrUnknownFormat)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if squashfs.Is(head[:n]) {
		return squashfsFile, nil
	}
	for kind, magic := range magics {
		if bytes.HasPrefix(head[:n], magic) {
			return kind, nil
		}
	}
	return plainTar, nil
}

// openZstd bounds the memory that a frame may ask for. zstd(1) itself refuses
// windows above 128 MiB unless told otherwise.
func openZstd(r io.Reader) (io.ReadCloser, error) {
	d, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(128<<20), zstd.WithDecoderConcurrency(2))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}

// unpackTarFile reads a tar archive in a file.
func unpackTarFile(ctx context.Context, t *tree, src string, kind kind) error {
	f, err := os.Open(src)
	if err != nil {
		return err
	}
	defer f.Close()
	return unpackTarFrom(ctx, t, f, kind)
}

// unpackTarFrom reads a tar archive through its decompressor.
func unpackTarFrom(ctx context.Context, t *tree, r io.Reader, kind kind) error {
	content, err := decompressors[kind](bufio.NewReaderSize(r, 1<<18))
	if err != nil {
		return err
	}
	defer content.Close()
	if err := t.unpackTar(ctx, content); err != nil {
		return err
	}
	return verifyRest(ctx, content)
}

// verifyRest reads on to the end of the compressed data, where its checksum
// is. Garbage behind that end is as harmless as gzip(1) and tar(1) take it to be.
func verifyRest(ctx context.Context, r io.Reader) error {
	const most = 64 << 20 // tar pads to a few kilobytes; more is garbage, and never ends perhaps
	_, err := io.CopyN(io.Discard, cancellable{ctx, r}, most)
	if errors.Is(err, io.EOF) || errors.Is(err, gzip.ErrHeader) || errors.Is(err, zstd.ErrMagicMismatch) {
		return nil
	}
	return err
}

// cancellable fails with the context's error once that is done.
type cancellable struct {
	ctx context.Context //nolint:containedctx // an io.Reader has no other place for it
	r   io.Reader
}

func (c cancellable) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
