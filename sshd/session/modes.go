package session

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Opcodes of RFC 4254, section 8, that are not simple flags.
const (
	opEnd         = 0   // TTY_OP_END
	opInputSpeed  = 128 // bits per second
	opOutputSpeed = 129
	opUndefined   = 160 // from here on the argument's length is unknown: stop
)

// disabledCharacter is the protocol's "no such character"; Linux says 0.
const disabledCharacter = 255

// controlCharacters maps opcodes to indexes of termios.Cc. Opcodes that Linux
// has no character for are not in it.
var controlCharacters = map[byte]int{
	1: unix.VINTR, 2: unix.VQUIT, 3: unix.VERASE, 4: unix.VKILL, 5: unix.VEOF, 6: unix.VEOL,
	7: unix.VEOL2, 8: unix.VSTART, 9: unix.VSTOP, 10: unix.VSUSP, 12: unix.VREPRINT,
	13: unix.VWERASE, 14: unix.VLNEXT, 16: unix.VSWTC, 18: unix.VDISCARD,
}

var inputFlags = map[byte]uint32{
	30: unix.IGNPAR, 31: unix.PARMRK, 32: unix.INPCK, 33: unix.ISTRIP, 34: unix.INLCR,
	35: unix.IGNCR, 36: unix.ICRNL, 37: unix.IUCLC, 38: unix.IXON, 39: unix.IXANY,
	40: unix.IXOFF, 41: unix.IMAXBEL, 42: unix.IUTF8, // 42: RFC 8160
}

var localFlags = map[byte]uint32{
	50: unix.ISIG, 51: unix.ICANON, 52: unix.XCASE, 53: unix.ECHO, 54: unix.ECHOE,
	55: unix.ECHOK, 56: unix.ECHONL, 57: unix.NOFLSH, 58: unix.TOSTOP, 59: unix.IEXTEN,
	60: unix.ECHOCTL, 61: unix.ECHOKE, 62: unix.PENDIN,
}

var outputFlags = map[byte]uint32{
	70: unix.OPOST, 71: unix.OLCUC, 72: unix.ONLCR, 73: unix.OCRNL, 74: unix.ONOCR, 75: unix.ONLRET,
}

var controlFlags = map[byte]uint32{90: unix.CS7, 91: unix.CS8, 92: unix.PARENB, 93: unix.PARODD}

// speeds are the rates that termios(3) has codes for; what a terminal over a
// network has as its speed is a matter of looks (and of padding, long ago).
var speeds = map[uint32]uint32{
	0: unix.B0, 50: unix.B50, 75: unix.B75, 110: unix.B110, 134: unix.B134, 150: unix.B150, 200: unix.B200,
	300: unix.B300, 600: unix.B600, 1200: unix.B1200, 1800: unix.B1800, 2400: unix.B2400, 4800: unix.B4800,
	9600: unix.B9600, 19200: unix.B19200, 38400: unix.B38400, 57600: unix.B57600, 115200: unix.B115200,
	230400: unix.B230400, 460800: unix.B460800, 921600: unix.B921600,
}

// applyModes reads opcode and argument pairs until the end or the first thing
// that it cannot read; a client's terminal may know modes that ours does not.
func applyModes(t *unix.Termios, modes string) {
	for len(modes) >= 5 && modes[0] != opEnd && modes[0] < opUndefined {
		applyMode(t, modes[0], binary.BigEndian.Uint32([]byte(modes[1:5])))
		modes = modes[5:]
	}
}

func applyMode(t *unix.Termios, op byte, value uint32) {
	if index, ok := controlCharacters[op]; ok {
		t.Cc[index] = uint8(value)
		if value == disabledCharacter {
			t.Cc[index] = 0
		}
		return
	}
	switch op {
	case opInputSpeed: // no program asks for another input speed than the output's
	case opOutputSpeed:
		if code, ok := speeds[value]; ok {
			t.Cflag = t.Cflag&^unix.CBAUD | code
		}
	default:
		setFlag(&t.Iflag, inputFlags[op], value)
		setFlag(&t.Lflag, localFlags[op], value)
		setFlag(&t.Oflag, outputFlags[op], value)
		setFlag(&t.Cflag, controlFlags[op], value)
	}
}

// setFlag does nothing for a mask of zero, which is a flag of another word.
func setFlag(word *uint32, mask, value uint32) {
	if value != 0 {
		*word |= mask
	} else {
		*word &^= mask
	}
}
