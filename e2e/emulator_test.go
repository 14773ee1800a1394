package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// aarch64 is what the magic of every handler of aarch64 programs ends with.
const aarch64 = "0200b700"

// noEmulatorCommand takes the kernel's handlers of aarch64 programs away and
// gives them back when the script ends, in place of those of the script.
func noEmulatorCommand(ts *testscript.TestScript, _ []string) {
	place := ts.MkAbs(".binfmt")
	ts.Check(os.MkdirAll(place, 0o700))
	var taken []string
	take := func(dir string) (err error) {
		taken, err = takeHandlers(dir)
		return err
	}
	ts.Check(withBinfmt(place, take))
	ts.Defer(func() {
		ts.Check(withBinfmt(place, func(dir string) error {
			if _, err := takeHandlers(dir); err != nil {
				return err
			}
			return giveHandlers(dir, taken)
		}))
	})
}

// canBinfmt tells whether binfmt_misc can be mounted.
func canBinfmt() bool {
	place, err := os.MkdirTemp("", "binfmt-*")
	if err != nil {
		return false
	}
	defer os.Remove(place)
	return withBinfmt(place, func(string) error { return nil }) == nil
}

// withBinfmt lets work see binfmt_misc, which is one and the same wherever it is mounted.
func withBinfmt(place string, work func(dir string) error) error {
	if err := unix.Mount("binfmt_misc", place, "binfmt_misc", 0, ""); err != nil {
		return fmt.Errorf("mount binfmt_misc: %w", err)
	}
	defer unix.Unmount(place, unix.MNT_DETACH)
	return work(place)
}

// takeHandlers takes the handlers of aarch64 away and returns the lines that
// register them anew.
func takeHandlers(dir string) (lines []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		text, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(text), aarch64) {
			continue // register cannot be read
		}
		lines = append(lines, registration(entry.Name(), string(text)))
		if err := os.WriteFile(path, []byte("-1"), 0); err != nil {
			return nil, err
		}
	}
	return lines, nil
}

func giveHandlers(dir string, lines []string) error {
	for _, line := range lines {
		if err := os.WriteFile(filepath.Join(dir, "register"), []byte(line), 0); err != nil {
			return err
		}
	}
	return nil
}

// registration is the line that makes a handler of its description.
func registration(name, description string) string {
	field := map[string]string{}
	for line := range strings.Lines(description) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		field[strings.TrimSuffix(key, ":")] = value
	}
	return fmt.Sprintf(":%s:M:%s:%s:%s:%s:%s", name, field["offset"],
		hexadecimal(field["magic"]), hexadecimal(field["mask"]), field["interpreter"], field["flags"])
}

// hexadecimal writes digits as the register file reads them.
func hexadecimal(digits string) string {
	var b strings.Builder
	for i := 0; i+1 < len(digits); i += 2 {
		b.WriteString(`\x` + digits[i:i+2])
	}
	return b.String()
}
