package squashfs

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// Xattr is an extended attribute with its full name, "security.capability".
type Xattr struct {
	Name  string
	Value []byte
}

// xattrPrefixes are the namespaces that the format knows, by their ids.
var xattrPrefixes = []string{"user.", "trusted.", "security."}

// xattrElsewhere in an attribute's type says that its value lies elsewhere.
const xattrElsewhere = 1 << 8

// maxXattrValue is the kernel's bound (xattr(7)).
const maxXattrValue = 64 << 10

// splitXattr is the id of a name's namespace and the rest; false for one that
// the format does not know.
func splitXattr(name string) (id uint16, rest string, ok bool) {
	for id, prefix := range xattrPrefixes {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			return uint16(id), rest, true
		}
	}
	return 0, "", false
}

// xattrTable is where sets of attributes lie.
type xattrTable struct {
	values *metadata
	sets   *table // of xattrSet, nil if there are none
}

// xattrSet is an entry of the table: a set that files may share.
type xattrSet struct {
	At          ref
	Count, Size uint32 // of the attributes, of their bytes
}

const xattrSetSize = 16

func (t *xattrTable) count() int {
	if t.sets == nil {
		return 0
	}
	return int(t.sets.count)
}

// Bounds of the attributes of one file. The kernel gives out 64 KiB of names at
// the most (listxattr(2)).
const (
	maxXattrs     = 64 << 10 / 7 // "user.x" and a zero
	maxXattrBytes = 16 << 20
)

func (a *Archive) readXattrs() error {
	if a.sb.XattrTable == noTable || a.sb.Flags&flagNoXattrs != 0 {
		return nil
	}
	head := make([]byte, 16)
	if a.sb.XattrTable > a.sb.Size {
		return malformed("attributes at %d", a.sb.XattrTable)
	}
	if _, err := a.r.ReadAt(head, int64(a.sb.XattrTable)); err != nil {
		return readError(err)
	}
	start, count := binary.LittleEndian.Uint64(head), binary.LittleEndian.Uint32(head[8:])
	sets, err := a.table("set of attributes", a.sb.XattrTable+16, uint64(count), xattrSetSize)
	if err != nil {
		return err
	}
	a.xattrs = xattrTable{newMetadata(a.r, start, a.sb.XattrTable, a.pool), sets}
	return nil
}

// Xattrs are a file's extended attributes.
func (a *Archive) Xattrs(i *Inode) ([]Xattr, error) {
	if i.xattrs == noXattr {
		return nil, nil
	}
	entry, err := a.xattrs.sets.entry(uint64(i.xattrs))
	if err != nil {
		return nil, fmt.Errorf("inode %d: %w", i.Number, err)
	}
	var set xattrSet
	if _, err := binary.Decode(entry, binary.LittleEndian, &set); err != nil {
		return nil, err
	}
	if set.Count > maxXattrs {
		return nil, malformed("inode %d: %d attributes", i.Number, set.Count)
	}
	c, err := a.xattrs.values.at(set.At.block(), set.At.offset())
	if err != nil {
		return nil, err
	}
	var list []Xattr
	total := 0
	for range set.Count {
		x, err := a.readXattr(c)
		if err != nil {
			return nil, err
		}
		list = append(list, x)
		if total += len(x.Name) + len(x.Value); total > maxXattrBytes {
			return nil, malformed("inode %d: more than %d bytes of attributes", i.Number, maxXattrBytes)
		}
	}
	return list, nil
}

func (a *Archive) readXattr(c *cursor) (x Xattr, err error) {
	var head struct{ Type, Size uint16 }
	if err := c.value(&head); err != nil {
		return x, err
	}
	prefix := int(head.Type &^ xattrElsewhere)
	if prefix >= len(xattrPrefixes) || head.Size > maxName {
		return x, malformed("an attribute of type %d with a name of %d bytes", head.Type, head.Size)
	}
	name, err := c.bytes(int(head.Size))
	if err != nil {
		return x, err
	}
	x.Name = xattrPrefixes[prefix] + string(name)
	x.Value, err = readXattrValue(c)
	if err == nil && head.Type&xattrElsewhere != 0 {
		if len(x.Value) != 8 {
			return x, malformed("attribute %q: a reference of %d bytes", x.Name, len(x.Value))
		}
		there := ref(binary.LittleEndian.Uint64(x.Value))
		if c, err = c.table.at(there.block(), there.offset()); err == nil {
			x.Value, err = readXattrValue(c)
		}
	}
	return x, err
}

func readXattrValue(c *cursor) ([]byte, error) {
	var size uint32
	if err := c.value(&size); err != nil {
		return nil, err
	}
	if size > maxXattrValue {
		return nil, malformed("an attribute of %d bytes", size)
	}
	return c.bytes(int(size))
}
