package squashfs

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// xattrSets are the sets of extended attributes of a new archive. Files with
// equal attributes share one.
type xattrSets struct {
	index   map[string]uint32
	encoded []string
	counts  []uint32 // attributes in each
}

func (x *xattrSets) add(list []Xattr) uint32 {
	if len(list) == 0 {
		return noXattr
	}
	slices.SortFunc(list, func(a, b Xattr) int { return cmp.Compare(a.Name, b.Name) })
	var b []byte
	for _, attr := range list {
		prefix, rest, _ := splitXattr(attr.Name)
		b = binary.LittleEndian.AppendUint16(b, prefix)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(rest)))
		b = append(b, rest...)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(attr.Value)))
		b = append(b, attr.Value...)
	}
	n, known := x.index[string(b)]
	if !known {
		if x.index == nil {
			x.index = map[string]uint32{}
		}
		n = uint32(len(x.encoded))
		x.index[string(b)] = n
		x.encoded, x.counts = append(x.encoded, string(b)), append(x.counts, uint32(len(list)))
	}
	return n
}
