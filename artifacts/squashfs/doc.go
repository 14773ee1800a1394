// Package squashfs reads and writes squashfs archives of image roots, as the
// kernel mounts them (version 4.0).
//
// What it keeps is what the format can: types, permissions, owners, times to the
// second, devices, hard links, holes, names of any bytes, and the extended
// attributes of the namespaces user, trusted and security. POSIX access control
// lists live in system and are lost; packing names the files that had one. So it
// does with what is mounted below a root: of that, only the directory is packed.
//
// # Words
//
// A block is a piece of a file's content, 128 KiB unless told otherwise, and is
// compressed by itself. A tail is what is left at a file's end, or a file that is
// smaller than a block; tails of many files share a fragment, which is compressed
// as one. Metadata are inodes and listings of directories, in blocks of 8 KiB.
//
// # Writing
//
// [Packer] looks at the whole root first (scan.go), then one goroutine reads the
// files in the order of their names (feed.go), several compress, and one writes
// (content.go); tables come last (inodewriter.go). In memory is what is under way
// and a node for each name. The same root and options give the same bytes, on any
// machine and with any number of processors. A file that changes while it is
// read is read again, and after some attempts the pack fails with its name.
//
// # Reuse
//
// With the archive that the root was unpacked from, what has not changed is taken
// over as it is, compressed (reuse.go, takeover.go). Which files those are, a
// record says that was made when they were unpacked (identities.go), or comparing.
// It may stay at its offset, too, with what is new behind it (append.go): such an
// archive has zeros where something was dropped.
//
// # Reading
//
// An [Archive] is not trusted: whatever it says, reading it ends, in bounded
// memory, with an error that is [ErrFormat]. [Unpack] makes a tree of it, in
// parallel, by descriptors of directories, so that nothing is made outside.
//
// An archive or a tree is there whole or not at all: until it is complete it has
// a temporary name beside its own.
//
// It writes no archive in place, and reads no version before 4.0.
package squashfs
