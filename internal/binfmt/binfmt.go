// Package binfmt lets the kernel run programs of another architecture, by
// registering an emulator with binfmt_misc (the kernel's
// Documentation/admin-guide/binfmt-misc.rst).
//
// A handler is registered with the flag F, which makes the kernel open the
// emulator at once: it then serves jails and containers in which the emulator
// is not to be found. A registration belongs to the machine, not to the job: it
// is left in place, like that of the distribution's own packages.
package binfmt

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
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

// Dir is where binfmt_misc is mounted.
const Dir = "/proc/sys/fs/binfmt_misc"

// Register makes sure that the kernel has such a handler. It is idempotent, and
// content with any enabled handler of the same magic and with the flag F,
// whoever registered it.
func (h Handler) Register() error {
	unmount, err := mount()
	if err != nil {
		return fmt.Errorf("register %s: %w; the container must be privileged, or the node must have the handler already", h.Name, err)
	}
	defer unmount()
	there, taken, err := h.lookUp()
	if err != nil || there {
		return err
	}
	if _, err := os.Stat(h.Interpreter); err != nil {
		return fmt.Errorf("register %s: %w; install qemu-user-static", h.Name, err)
	}
	if taken {
		h.Name = "buildenv-" + h.Name
	}
	line := fmt.Sprintf(":%s:M::%s:%s:%s:F", h.Name, escape(h.Magic), escape(h.Mask), h.Interpreter)
	if err := os.WriteFile(filepath.Join(Dir, "register"), []byte(line), 0); err != nil {
		return fmt.Errorf("register %s: %w; the container must be privileged", h.Name, err)
	}
	return nil
}

// lookUp tells whether the handler is there, and whether its name is taken by
// one that will not do.
func (h Handler) lookUp() (there, taken bool, err error) {
	entries, err := os.ReadDir(Dir)
	if err != nil {
		return false, false, fmt.Errorf("look for %s: %w", h.Name, err)
	}
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(Dir, entry.Name()))
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

// mount makes binfmt_misc visible and returns what hides it again if it was not.
func mount() (unmount func(), err error) {
	register := filepath.Join(Dir, "register")
	if exists(register) {
		return func() {}, nil
	}
	if !exists(Dir) {
		// Built as a module on some kernels; without modprobe the mount below tells.
		exec.Command("modprobe", "binfmt_misc").Run()
	}
	if err := unix.Mount("binfmt_misc", Dir, "binfmt_misc", 0, ""); err != nil {
		return nil, fmt.Errorf("mount binfmt_misc on %s: %w", Dir, err)
	}
	return func() { unix.Unmount(Dir, unix.MNT_DETACH) }, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
