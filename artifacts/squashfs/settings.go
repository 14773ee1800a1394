package squashfs

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"path/filepath"
	"runtime"

	"buildenv/artifacts"
)

// settings are options that have been checked.
type settings struct {
	compression compression
	level       int
	raw         bool
	blockSize   int
	processors  int
	created     *uint32 // seconds since 1970, nil for the time of the newest file
	clamp       int64
	exclude     []string
	append      bool // what is taken over stays where it is
}

// CheckOptions tells beforehand whether Pack would refuse opts.
func CheckOptions(opts artifacts.PackOptions) error {
	_, err := newSettings(opts)
	return err
}

func newSettings(opts artifacts.PackOptions) (s *settings, err error) {
	s = &settings{raw: opts.Compression == none, clamp: math.MaxInt64}
	if s.compression, s.level, err = compressionByName(opts.Compression, opts.Level); err != nil {
		return nil, err
	}
	s.blockSize = cmp.Or(opts.BlockSize, defaultBlockSize)
	if s.blockSize < minBlockSize || s.blockSize > maxBlockSize || bits.OnesCount(uint(s.blockSize)) != 1 {
		return nil, fmt.Errorf("block size %d: want a power of two from %d to %d", s.blockSize, minBlockSize, maxBlockSize)
	}
	switch opts.Layout {
	case "", artifacts.LayoutCompact:
	case artifacts.LayoutAppend:
		s.append = true
	default:
		return nil, fmt.Errorf("layout %q: want %s or %s", opts.Layout, artifacts.LayoutCompact, artifacts.LayoutAppend)
	}
	s.processors = opts.Processors
	if s.processors <= 0 {
		s.processors = runtime.GOMAXPROCS(0)
	}
	if err := s.setTimes(opts); err != nil {
		return nil, err
	}
	for _, path := range opts.Exclude {
		s.exclude = append(s.exclude, filepath.Clean("./"+path))
	}
	return s, nil
}

func (s *settings) setTimes(opts artifacts.PackOptions) error {
	for _, t := range []*int64{opts.Epoch, opts.Created} {
		if t == nil {
			continue
		}
		if *t < 0 || *t > math.MaxUint32 {
			return fmt.Errorf("time %d: squashfs knows the seconds from 0 to %d", *t, uint32(math.MaxUint32))
		}
		created := uint32(*t)
		s.created = &created
	}
	if opts.Epoch != nil {
		s.clamp = *opts.Epoch
	}
	return nil
}

func (s *settings) newCompressor() (compressor, error) {
	if s.raw {
		return nil, nil
	}
	return s.compression.compressor(s.level, s.blockSize)
}
