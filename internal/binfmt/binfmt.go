// Package binfmt lets the kernel run programs of another architecture, by
// registering an emulator with binfmt_misc (the kernel's
// Documentation/admin-guide/binfmt-misc.rst).
//
// A handler is registered with the flag F, which makes the kernel open the
// emulator at once: it then serves jails and containers in which the emulator
// is not to be found. A registration belongs to the machine, not to the job: it
// is left in place, like that of the distribution's own packages. Since Linux
// 6.7 it lives only as long as somebody has binfmt_misc mounted, though, and so
// [Handler.Register] keeps a mount of its own that has no place and no name.
package binfmt

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Handler is an emulator and the files that it is for.
type Handler struct {
	Name        string
	Magic       string // hex, from the file's first byte
	Mask        string // hex, as long as Magic
	Interpreter string
}

// AArch64 emulates 64-bit ARM Linux executables: an ELF header of class 64,
// little endian, type executable or shared object, machine 183.
var AArch64 = Handler{
	Name:        "qemu-aarch64",
	Magic:       "7f454c460201010000000000000000000200b700",
	Mask:        "ffffffffffffff00fffffffffffffffffeffffff",
	Interpreter: "/usr/bin/qemu-aarch64-static",
}

// Dir is where binfmt_misc is mounted by custom.
const Dir = "/proc/sys/fs/binfmt_misc"

// Register makes sure that the kernel has such a handler until release is
// called. It is idempotent, and content with any enabled handler of the same
// magic and with the flag F, whoever registered it.
func (h Handler) Register() (release func(), err error) {
	dir, err := open()
	if err != nil {
		return nil, fmt.Errorf("register %s: %w; the container must be privileged", h.Name, err)
	}
	if err := h.register(fmt.Sprintf("/proc/self/fd/%d", dir.Fd())); err != nil {
		dir.Close()
		return nil, fmt.Errorf("register %s: %w", h.Name, err)
	}
	return func() { dir.Close() }, nil
}

// register adds the handler to binfmt_misc, which is at dir.
func (h Handler) register(dir string) error {
	there, taken, err := h.lookUp(dir)
	if err != nil || there {
		return err
	}
	if _, err := os.Stat(h.Interpreter); err != nil {
		return fmt.Errorf("%w; install qemu-user-static", err)
	}
	if taken {
		h.Name = "buildenv-" + h.Name
	}
	line := fmt.Sprintf(":%s:M::%s:%s:%s:F", h.Name, escape(h.Magic), escape(h.Mask), h.Interpreter)
	if err := os.WriteFile(filepath.Join(dir, "register"), []byte(line), 0); err != nil {
		return fmt.Errorf("%w; the container must be privileged", err)
	}
	return nil
}

// lookUp tells whether the handler is there, and whether its name is taken by
// one that will not do.
func (h Handler) lookUp(dir string) (there, taken bool, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, false, fmt.Errorf("look for handlers: %w", err)
	}
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			continue // register cannot be read
		}
		there = there || h.serves(string(text))
		taken = taken || entry.Name() == h.Name
	}
	return there, taken, nil
}

// serves tells whether an entry's description is of a handler like h.
func (h Handler) serves(description string) bool {
	var enabled, fixed, magic bool
	lines := bufio.NewScanner(strings.NewReader(description))
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), " ")
		switch key {
		case "enabled":
			enabled = true
		case "flags:":
			fixed = strings.Contains(value, "F")
		case "magic":
			magic = value == h.Magic
		}
	}
	return enabled && fixed && magic
}

// escape writes hex digits as the \xNN that the register file reads, for it
// takes no zero bytes.
func escape(digits string) string {
	var b strings.Builder
	for i := 0; i+1 < len(digits); i += 2 {
		b.WriteString(`\x` + digits[i:i+2])
	}
	return b.String()
}

// open holds binfmt_misc: where it is mounted, or else a mount that is attached
// nowhere (fsmount(2), Linux 5.2). The kernel loads the module if there is one.
func open() (*os.File, error) {
	if _, err := os.Stat(filepath.Join(Dir, "register")); err == nil {
		return os.Open(Dir)
	}
	context, err := unix.Fsopen("binfmt_misc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open binfmt_misc: %w", err)
	}
	defer unix.Close(context)
	if err := unix.FsconfigCreate(context); err != nil {
		return nil, fmt.Errorf("open binfmt_misc: %w", err)
	}
	mount, err := unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("mount binfmt_misc: %w", err)
	}
	return os.NewFile(uintptr(mount), Dir), nil
}
