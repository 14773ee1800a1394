package squashfs

import (
	"encoding/binary"
	"hash/adler32"
	"math/bits"
)

// inflater reads zlib streams (RFC 1950 and 1951) that are whole in memory, as
// blocks of an archive are. That is all it can do, and it takes half the time of
// a reader of streams: input is taken eight bytes at once, a symbol with its
// extra bits by one look-up, and output goes to its place.
type inflater struct {
	src []byte
	pos int    // in src, of what is not yet in bits
	buf uint64 // bits that have been taken, the next one lowest
	n   uint   // how many
	dst []byte
	out int // bytes in dst

	lengths   [maxSymbols]uint8
	literals  [1<<literalBits + deepLiterals]uint32
	distances [1<<distanceBits + deepDistances]uint32
	fixed     bool // the tables hold the fixed codes
}

// Sizes of the look-up tables. Codes that are longer than a table has bits go
// on in a second table behind it, of up to 2^(15-bits) entries for each prefix.
// Two codes at least share such a prefix, as all bit patterns are used up.
const (
	literalBits   = 10
	distanceBits  = 8
	preBits       = 7
	maxCode       = 15
	maxSymbols    = 288 + 32
	deepLiterals  = 288 / 2 << (maxCode - literalBits)
	deepDistances = 32 / 2 << (maxCode - distanceBits)
)

// An entry of a table: how many bits a code and its extra bits have (lowest 8),
// how many the code alone (next 4), then what it is, and its value from bit 16 on.
const (
	entryLiteral = 1 << 12
	entryMore    = 1 << 13 // value is where the second table begins, the extra bits are its size
	entryEnd     = 1 << 14 // of a block
	entryValid   = 1 << 15 // no code leads to an entry without it
)

var errInflate = malformed("decompress: not a zlib stream")

// decompress reads one stream.
func (f *inflater) decompress(dst, src []byte) (int, error) {
	if len(src) < 2 || src[0]&15 != 8 || src[0]>>4 > 7 || src[1]&32 != 0 || (uint(src[0])<<8|uint(src[1]))%31 != 0 {
		return 0, errInflate
	}
	f.src, f.pos, f.buf, f.n, f.dst, f.out = src, 2, 0, 0, dst, 0
	for last := false; !last; {
		head, ok := f.take(3)
		if !ok {
			return 0, errInflate
		}
		last = head&1 != 0
		if err := f.block(head >> 1); err != nil {
			return 0, err
		}
	}
	f.align()
	if f.pos+4 > len(src) || binary.BigEndian.Uint32(src[f.pos:]) != adler32.Checksum(dst[:f.out]) {
		return 0, errInflate
	}
	return f.out, nil
}

func (f *inflater) block(kind uint64) error {
	switch kind {
	case 0:
		return f.storedBlock()
	case 1:
		if err := f.fixedTables(); err != nil {
			return err
		}
	case 2:
		if err := f.dynamicTables(); err != nil {
			return err
		}
	default:
		return errInflate
	}
	return f.symbols()
}

// refill takes input until there are 56 bits at least, or there is no more.
func (f *inflater) refill() {
	for f.n <= 56 && f.pos < len(f.src) {
		f.buf |= uint64(f.src[f.pos]) << f.n
		f.pos++
		f.n += 8
	}
}

// take returns the next bits, 32 at most.
func (f *inflater) take(count uint) (uint64, bool) {
	if f.n < count {
		f.refill()
		if f.n < count {
			return 0, false
		}
	}
	value := f.buf & (1<<count - 1)
	f.buf >>= count
	f.n -= count
	return value, true
}

// align gives back whole bytes that were taken too early.
func (f *inflater) align() {
	f.pos -= int(f.n / 8)
	f.buf, f.n = 0, 0
}

func (f *inflater) storedBlock() error {
	f.align()
	if f.pos+4 > len(f.src) {
		return errInflate
	}
	size, check := int(binary.LittleEndian.Uint16(f.src[f.pos:])), binary.LittleEndian.Uint16(f.src[f.pos+2:])
	f.pos += 4
	if size != int(^check) || size > len(f.src)-f.pos {
		return errInflate
	}
	if size > len(f.dst)-f.out {
		return errTooLong
	}
	f.out += copy(f.dst[f.out:], f.src[f.pos:f.pos+size])
	f.pos += size
	return nil
}

func (f *inflater) fixedTables() error {
	if f.fixed {
		return nil
	}
	for i := range 288 {
		f.lengths[i] = [...]uint8{8, 9, 7, 8}[b2i(i >= 144)+b2i(i >= 256)+b2i(i >= 280)]
	}
	for i := range 32 {
		f.lengths[288+i] = 5
	}
	err := f.tables(288, 32)
	f.fixed = err == nil
	return err
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// preOrder is the order in which the lengths of the codes of lengths come (RFC 1951, 3.2.7).
var preOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

func (f *inflater) dynamicTables() error {
	f.fixed = false
	head, ok := f.take(14)
	if !ok {
		return errInflate
	}
	literals, distances, count := int(head&31)+257, int(head>>5&31)+1, int(head>>10)+4
	if literals > 286 || distances > 30 {
		return errInflate
	}
	var pre [19]uint8
	for _, symbol := range preOrder[:count] {
		length, ok := f.take(3)
		if !ok {
			return errInflate
		}
		pre[symbol] = uint8(length)
	}
	table := f.distances[:1<<preBits]
	if !buildTable(table, preBits, pre[:], func(symbol int) uint32 { return uint32(symbol) << 16 }) {
		return errInflate
	}
	if !f.readLengths(table, literals+distances) {
		return errInflate
	}
	// Distances have their place behind the greatest number of literals.
	copy(f.lengths[288:], f.lengths[literals:literals+distances])
	return f.tables(literals, distances)
}

// readLengths reads the lengths of the codes of literals and distances.
func (f *inflater) readLengths(table []uint32, count int) bool {
	for i := 0; i < count; {
		f.refill()
		e := table[f.buf&(1<<preBits-1)]
		width := uint(e & 0xff)
		if e&entryValid == 0 || width > f.n {
			return false
		}
		f.buf >>= width
		f.n -= width
		symbol := e >> 16
		if symbol < 16 {
			f.lengths[i] = uint8(symbol)
			i++
			continue
		}
		repeat := [...]struct{ bits, least uint64 }{{2, 3}, {3, 3}, {7, 11}}[symbol-16]
		more, ok := f.take(uint(repeat.bits))
		value := uint8(0)
		if symbol == 16 {
			if i == 0 {
				return false
			}
			value = f.lengths[i-1]
		}
		times := int(more + repeat.least)
		if !ok || i+times > count {
			return false
		}
		for range times {
			f.lengths[i] = value
			i++
		}
	}
	return f.lengths[256] != 0 // a block must have an end
}

// tables builds both tables from the lengths of their codes.
func (f *inflater) tables(literals, distances int) error {
	if !buildTable(f.literals[:], literalBits, f.lengths[:literals], literalEntry) ||
		!buildTable(f.distances[:], distanceBits, f.lengths[288:288+distances], distanceEntry) {
		return errInflate
	}
	return nil
}

// literalEntry is what a symbol of the first alphabet means: value and extra bits.
func literalEntry(symbol int) uint32 {
	switch {
	case symbol < 256:
		return uint32(symbol)<<16 | entryLiteral
	case symbol == 256:
		return entryEnd
	case symbol > 285:
		return entryEnd | entryMore // makes no sense: refused
	}
	s := symbol - 257
	return uint32(lengthBase[s])<<16 | uint32(lengthExtra[s])
}

func distanceEntry(symbol int) uint32 {
	if symbol > 29 {
		return entryEnd | entryMore
	}
	return uint32(distanceBase[symbol])<<16 | uint32(distanceExtra[symbol])
}

// RFC 1951, 3.2.5.
var (
	lengthBase = [29]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115,
		131, 163, 195, 227, 258}
	lengthExtra  = [29]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distanceBase = [30]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537,
		2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distanceExtra = [30]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
)

// buildTable fills a table for canonical codes of the lengths given. It is false
// for codes that cannot be, by zlib's rule: they must use up all bit patterns,
// unless there is one code of one bit, or none.
func buildTable(table []uint32, width uint, lengths []uint8, entry func(symbol int) uint32) bool {
	var counts, next [maxCode + 2]uint32
	longest := uint8(0)
	for _, l := range lengths {
		counts[l]++
		longest = max(longest, l)
	}
	counts[0] = 0
	left := uint32(1)
	for l := 1; l <= maxCode; l++ {
		left <<= 1
		if counts[l] > left {
			return false
		}
		left -= counts[l]
		next[l+1] = (next[l] + counts[l]) << 1
	}
	if left > 0 && longest > 1 {
		return false
	}
	clear(table[:1<<width])
	free := uint32(1) << width
	for symbol, l := range lengths {
		if l == 0 {
			continue
		}
		code := uint(bits.Reverse16(uint16(next[l])) >> (16 - l))
		next[l]++
		e := entry(symbol) | entryValid
		if uint(l) <= width {
			fillTable(table[:1<<width], code, uint(l), e)
			continue
		}
		prefix := code & (1<<width - 1)
		deeper := uint(longest) - width
		if table[prefix] == 0 {
			table[prefix] = free<<16 | entryMore | entryValid | uint32(width)<<8 | uint32(deeper)
			clear(table[free : free+1<<deeper])
			free += 1 << deeper
		}
		start := table[prefix] >> 16
		fillTable(table[start:start+1<<deeper], code>>width, uint(l)-width, e)
	}
	return true
}

// fillTable puts a code at all places that begin with it.
func fillTable(table []uint32, code, length uint, e uint32) {
	e += uint32(length)<<8 + uint32(length) // the lowest 8 bits have the extra bits already
	for i := code; i < uint(len(table)); i += 1 << length {
		table[i] = e
	}
}

// Room that the quick loop wants: a symbol takes 48 bits of input at most, and a
// copy writes up to 258 bytes, eight at once.
const (
	roomIn  = 16
	roomOut = 258 + 2 + 8
)

// symbols decodes a block to its end.
func (f *inflater) symbols() error {
	for {
		if f.pos+roomIn <= len(f.src) && f.out+roomOut <= len(f.dst) {
			if end, err := f.quick(); end || err != nil {
				return err
			}
		}
		if end, err := f.slow(); end || err != nil {
			return err
		}
	}
}

// quick decodes symbols as long as there is room on both sides. Its variables
// stay in registers, which a deferred function that sees them would prevent.
func (f *inflater) quick() (end bool, err error) {
	src, dst, pos, buf, n, out := f.src, f.dst, f.pos, f.buf, f.n, f.out
	literals, distances := &f.literals, &f.distances
loop:
	for pos <= len(src)-roomIn && out <= len(dst)-roomOut {
		buf |= binary.LittleEndian.Uint64(src[pos:]) << (n & 63)
		pos += int((63 - n) >> 3)
		n |= 56
		// Three codes fit into 56 bits, whatever they are.
		e := literals[buf&(1<<literalBits-1)]
		if e&entryLiteral != 0 {
			buf >>= e & 63
			n -= uint(e & 63)
			dst[out] = byte(e >> 16)
			out++
			e = literals[buf&(1<<literalBits-1)]
			if e&entryLiteral != 0 {
				buf >>= e & 63
				n -= uint(e & 63)
				dst[out] = byte(e >> 16)
				out++
				e = literals[buf&(1<<literalBits-1)]
			}
		}
		if e&(entryMore|entryEnd) == entryMore {
			buf >>= literalBits
			n -= literalBits
			e = literals[uint64(e>>16)+buf&(1<<(e&63)-1)]
		}
		if e&entryLiteral != 0 {
			buf >>= e & 63
			n -= uint(e & 63)
			dst[out] = byte(e >> 16)
			out++
			continue
		}
		if e&(entryEnd|entryValid) != entryValid {
			if e&(entryEnd|entryMore|entryValid) != entryEnd|entryValid {
				err = errInflate
				break loop
			}
			buf >>= e & 63
			n -= uint(e & 63)
			end = true
			break loop
		}
		length := int(e>>16) + int(buf&(1<<(e&63)-1)>>(e>>8&15))
		buf >>= e & 63
		n -= uint(e & 63)

		buf |= binary.LittleEndian.Uint64(src[pos:]) << (n & 63)
		pos += int((63 - n) >> 3)
		n |= 56
		e = distances[buf&(1<<distanceBits-1)]
		if e&(entryMore|entryEnd) == entryMore {
			buf >>= distanceBits
			n -= distanceBits
			e = distances[uint64(e>>16)+buf&(1<<(e&63)-1)]
		}
		distance := int(e>>16) + int(buf&(1<<(e&63)-1)>>(e>>8&15))
		buf >>= e & 63
		n -= uint(e & 63)
		if e&(entryEnd|entryValid) != entryValid || distance > out {
			err = errInflate
			break loop
		}
		if distance >= 8 {
			from, to := dst[out-distance:], dst[out:out+length+8]
			for i := 0; i < length; i += 8 {
				binary.LittleEndian.PutUint64(to[i:], binary.LittleEndian.Uint64(from[i:]))
			}
		} else {
			copyNear(dst[out-distance:out+length], distance)
		}
		out += length
	}
	f.pos, f.buf, f.n, f.out = pos, buf, n, out
	return end, err
}

// copyNear repeats the first bytes of p, of which there are distance, to its end.
func copyNear(p []byte, distance int) {
	for done := distance; done < len(p); done *= 2 {
		copy(p[done:], p[:done])
	}
}

// slow decodes one symbol, where input or output end.
func (f *inflater) slow() (end bool, err error) {
	e, value, ok := f.lookup(f.literals[:], literalBits)
	switch {
	case !ok || e&(entryEnd|entryMore) == entryEnd|entryMore:
		return false, errInflate
	case e&entryEnd != 0:
		return true, nil
	case e&entryLiteral != 0:
		if f.out == len(f.dst) {
			return false, errTooLong
		}
		f.dst[f.out] = byte(e >> 16)
		f.out++
		return false, nil
	}
	e, distance, ok := f.lookup(f.distances[:], distanceBits)
	if !ok || e&entryEnd != 0 || distance > f.out {
		return false, errInflate
	}
	if value > len(f.dst)-f.out {
		return false, errTooLong
	}
	copyNear(f.dst[f.out-distance:f.out+value], distance)
	f.out += value
	return false, nil
}

// lookup takes one symbol with its extra bits.
func (f *inflater) lookup(table []uint32, width uint) (e uint32, value int, ok bool) {
	f.refill()
	e = table[f.buf&(1<<width-1)]
	if e&(entryMore|entryEnd) == entryMore {
		if f.n < width {
			return 0, 0, false
		}
		f.buf >>= width
		f.n -= width
		e = table[uint64(e>>16)+f.buf&(1<<(e&63)-1)]
	}
	bits, code := uint(e&63), uint(e>>8&15)
	if e&entryValid == 0 || bits > f.n {
		return 0, 0, false
	}
	value = int(e>>16) + int(f.buf&(1<<bits-1)>>code)
	f.buf >>= bits
	f.n -= bits
	return e, value, true
}
