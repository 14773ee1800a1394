package sftp

import (
	"io"
	"math"
)

// copyData copies between two open files on the server, extension copy-data.
// A length of zero means up to the end of the source.
func (s *session) copyData(in *decoder, _ *packet) error {
	from, fromOffset, length, to, toOffset := in.handle(), in.u64(), in.u64(), in.handle(), in.u64()
	if err := in.err(); err != nil {
		return err
	}
	src, err := s.handles.file(from)
	if err != nil {
		return err
	}
	dst, err := s.handles.file(to)
	if err != nil {
		return err
	}
	if src.name == dst.name {
		return errHandle // a file that is copied onto itself never ends
	}
	before := dst.written
	err = s.copyRange(dst, toOffset, src, fromOffset, length)
	s.note("from", s.audited(src.name), "to", s.audited(dst.name), "written", dst.written-before)
	return err
}

func (s *session) copyRange(dst *handle, dstOffset uint64, src *handle, srcOffset, length uint64) error {
	w, err := fileOffset(dstOffset)
	if err != nil {
		return err
	}
	r, err := fileOffset(srcOffset)
	if err != nil {
		return err
	}
	toEnd := length == 0
	if toEnd {
		length = math.MaxUint64
	}
	buf := newPacket()
	defer buf.free()
	for length > 0 {
		if s.ended() {
			return errEnded
		}
		chunk := buf.b[:min(length, maxData)]
		n, readErr := src.file.ReadAt(chunk, r)
		if err := dst.writeAt(chunk[:n], w); err != nil {
			return err
		}
		src.read.Add(int64(n))
		r, w, length = r+int64(n), w+int64(n), length-uint64(n)
		if readErr == io.EOF && toEnd {
			return nil
		}
		if readErr != nil {
			return readErr
		}
	}
	return nil
}
