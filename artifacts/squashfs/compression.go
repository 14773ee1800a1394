package squashfs

import (
	"bytes"
	"cmp"
	stdzlib "compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/anchore/go-lzo"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// Ids of compressors in the superblock.
const (
	idGzip = 1
	idLZMA = 2
	idLZO  = 3
	idXZ   = 4
	idLZ4  = 5
	idZstd = 6
)

// errTooLong is returned when a block holds more than it may.
var errTooLong = malformed("a block expands to more than it may")

// A compressor writes blocks of one archive. It serves one goroutine.
type compressor interface {
	// compress appends the compressed src to dst.
	compress(dst, src []byte) ([]byte, error)
}

// A decompressor reads blocks of an archive. It serves one goroutine.
type decompressor interface {
	// decompress fills dst from its beginning and returns how much there is;
	// errTooLong if it does not fit.
	decompress(dst, src []byte) (int, error)
}

// compression is a way to compress that archives name by an id.
type compression struct {
	name           string
	id             uint16
	level, highest int // the default level and the highest one; 0 for a compressor without levels
	unsaid         int // the level of an archive without options
	compressor     func(level, blockSize int) (compressor, error)
	decompressor   func() decompressor
	options        func(level int) []byte // as stored behind the superblock, nil for none
}

// compressions are those that an archive may have. Those without a compressor
// are only read.
var compressions = []compression{
	{"gzip", idGzip, 6, 9, 9, newGzip, func() decompressor { return &inflater{} }, gzipOptions},
	{"zstd", idZstd, 3, 22, 15, newZstd, func() decompressor { return &unzstd{} }, zstdOptions},
	{"xz", idXZ, 0, 0, 0, newXZ, func() decompressor { return unxz{} }, nil},
	{"lz4", idLZ4, 0, 0, 0, nil, func() decompressor { return unlz4{} }, nil},
	{"lzo", idLZO, 0, 0, 0, nil, func() decompressor { return unlzo{} }, nil},
	{"lzma", idLZMA, 0, 0, 0, nil, func() decompressor { return unlzma{} }, nil},
}

func compressionByID(id uint16) (compression, error) {
	i := slices.IndexFunc(compressions, func(c compression) bool { return c.id == id })
	if i < 0 {
		return compression{}, malformed("unknown compressor %d", id)
	}
	return compressions[i], nil
}

// none is gzip by name and stores everything as it is.
const none = "none"

// compressionByName chooses what a new archive is compressed with; "" means gzip.
func compressionByName(name string, level int) (compression, int, error) {
	name = cmp.Or(name, "gzip")
	if name == none {
		if level != 0 {
			return compression{}, 0, fmt.Errorf("compression none: level %d: it has no levels", level)
		}
		return compressions[0], 0, nil
	}
	i := slices.IndexFunc(compressions, func(c compression) bool { return c.name == name && c.compressor != nil })
	if i < 0 {
		return compression{}, 0, fmt.Errorf("compression %q: want gzip, zstd, xz or none", name)
	}
	c := compressions[i]
	switch {
	case level != 0 && c.highest == 0:
		return c, 0, fmt.Errorf("compression %s: level %d: it has no levels", name, level)
	case level < 0 || level > c.highest:
		return c, 0, fmt.Errorf("compression %s: level %d: want 1 to %d", name, level, c.highest)
	}
	return c, cmp.Or(level, c.level), nil
}

// gzip is zlib's format (RFC 1950) in spite of its name.
type gzip struct {
	w interface {
		io.WriteCloser
		Reset(io.Writer)
	}
	out bytes.Buffer
}

// newGzip gives each level about the size that zlib reaches with it. The levels
// of the libraries mean something else: the quick one's 7 makes archives about
// as small as zlib's 6, and of the highest ones the standard library's are
// both smaller and quicker (docs/adr has the measurements).
func newGzip(level, _ int) (c compressor, err error) {
	g := &gzip{}
	switch {
	case level <= 5:
		g.w, err = zlib.NewWriterLevel(io.Discard, level)
	case level <= 7:
		g.w, err = zlib.NewWriterLevel(io.Discard, level+1)
	default:
		g.w, err = stdzlib.NewWriterLevel(io.Discard, level-2)
	}
	return g, err
}

func (g *gzip) compress(dst, src []byte) ([]byte, error) {
	g.out.Reset()
	g.w.Reset(&g.out)
	_, err := g.w.Write(src)
	if err == nil {
		err = g.w.Close()
	}
	return append(dst, g.out.Bytes()...), err
}

// gzipOptions are level, window size and strategies (squashfs-tools, gzip_wrapper.h).
func gzipOptions(level int) []byte {
	if level == 9 {
		return nil
	}
	options, _ := binary.Append(nil, binary.LittleEndian, struct {
		Level              uint32
		Window, Strategies uint16
	}{uint32(level), 15, 0})
	return options
}

// readBlock reads to the end of a stream that must fit into dst.
func readBlock(r io.Reader, dst []byte) (int, error) {
	n, err := io.ReadFull(r, dst)
	if errors.Is(err, io.ErrUnexpectedEOF) || err == io.EOF {
		return n, nil
	}
	if err != nil {
		return n, err
	}
	switch more, err := io.ReadFull(r, make([]byte, 1)); {
	case more > 0:
		return n, errTooLong
	case err != io.EOF:
		return n, err
	}
	return n, nil
}

type zstdWriter struct{ e *zstd.Encoder }

func newZstd(level, blockSize int) (compressor, error) {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstdEffort(level)), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(max(blockSize, 1<<10)), zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true))
	return zstdWriter{e}, err
}

// zstdEffort is the library's level that takes no longer than the tools at theirs.
func zstdEffort(level int) zstd.EncoderLevel {
	switch {
	case level <= 3:
		return zstd.SpeedFastest
	case level <= 9:
		return zstd.SpeedDefault
	case level <= 15:
		return zstd.SpeedBetterCompression
	}
	return zstd.SpeedBestCompression
}

func (z zstdWriter) compress(dst, src []byte) ([]byte, error) { return z.e.EncodeAll(src, dst), nil }

// zstdOptions are the level, unless it is the tools' default (squashfs-tools, zstd_wrapper.h).
func zstdOptions(level int) []byte {
	if level == 15 {
		return nil
	}
	return binary.LittleEndian.AppendUint32(nil, uint32(level))
}

type unzstd struct{ d *zstd.Decoder }

func (z *unzstd) decompress(dst, src []byte) (n int, err error) {
	if z.d == nil {
		z.d, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(2*maxBlockSize), zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			return 0, err
		}
	}
	out, err := z.d.DecodeAll(src, dst[:0:len(dst)])
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		err = errTooLong
	}
	return len(out), err
}

type xzWriter struct{ config xz.WriterConfig }

func newXZ(_, blockSize int) (compressor, error) {
	config := xz.WriterConfig{DictCap: max(blockSize, metadataSize), CheckSum: xz.CRC32, BlockSize: int64(max(blockSize, metadataSize))}
	return xzWriter{config}, config.Verify()
}

func (x xzWriter) compress(dst, src []byte) ([]byte, error) {
	out := bytes.NewBuffer(dst)
	w, err := x.config.NewWriter(out)
	if err == nil {
		_, err = w.Write(src)
	}
	if err == nil {
		err = w.Close()
	}
	return out.Bytes(), err
}

type unxz struct{}

// maxDictionary bounds the memory that a stream may ask for. The tools give it
// the size of a block.
const maxDictionary = 8 << 20

func (unxz) decompress(dst, src []byte) (int, error) {
	r, err := xz.ReaderConfig{DictCap: maxDictionary}.NewReader(bytes.NewReader(src))
	if err != nil {
		return 0, err
	}
	return readBlock(r, dst)
}

type unlzma struct{}

func (unlzma) decompress(dst, src []byte) (int, error) {
	r, err := lzma.ReaderConfig{DictCap: maxDictionary}.NewReader(bytes.NewReader(src))
	if err != nil {
		return 0, err
	}
	return readBlock(r, dst)
}

type unlz4 struct{}

func (unlz4) decompress(dst, src []byte) (int, error) {
	n, err := lz4.UncompressBlock(src, dst)
	if errors.Is(err, lz4.ErrInvalidSourceShortBuffer) {
		err = errTooLong
	}
	return n, err
}

type unlzo struct{}

func (unlzo) decompress(dst, src []byte) (int, error) { return lzo.Decompress(src, dst) }

// pool hands decompressors, which are costly to make, from one goroutine to the next.
type pool struct{ sync.Pool }

func newPool(c compression) *pool {
	return &pool{sync.Pool{New: func() any { return c.decompressor() }}}
}

func (p *pool) decompress(dst, src []byte) (n int, err error) {
	// What an archive says must not end the process, and most decompressors are
	// not ours. One that has panicked is not used again.
	defer func() {
		if reason := recover(); reason != nil {
			n, err = 0, malformed("decompress: %v", reason)
		}
	}()
	d := p.Get().(decompressor)
	n, err = d.decompress(dst, src)
	p.Put(d)
	if err != nil && !errors.Is(err, ErrFormat) {
		err = malformed("decompress: %v", err)
	}
	return n, err
}
