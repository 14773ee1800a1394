package entrypoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// samplePrograms are what a session in a sample root can use.
var samplePrograms = []string{"sh", "ls", "cat", "cp", "mv", "rm", "ln", "mkdir", "touch", "chmod", "id", "uname", "pwd"}

// sampleFiles are a sample root's own files; its kernel and initrd boot nothing.
var sampleFiles = map[string]string{
	"etc/os-release": "ID=buildenv-sample\nPRETTY_NAME=\"buildenv sample image\"\n",
	"etc/passwd":     "root:x:0:0:root:/root:/bin/sh\n",
	"etc/group":      "root:x:0:\n",
	"etc/motd":       "a sample image\n",
	"boot/vmlinuz":   "not a kernel: the sample image does not boot\n",
	"boot/initrd":    "not an initrd: the sample image does not boot\n",
}

// makeSampleRoot makes a small image root at dir out of this machine's programs
// and the libraries that they need.
func makeSampleRoot(dir string) error {
	for _, sub := range []string{"boot", "etc", "root", "usr/bin", "var", "opt", "dev", "proc", "sys"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	tmpDir := filepath.Join(dir, tmp)
	if err := errors.Join(os.Mkdir(tmpDir, 0o777), os.Chmod(tmpDir, 0o777|os.ModeSticky),
		os.Symlink("usr/bin", filepath.Join(dir, "bin")),
		unix.Mknod(filepath.Join(dir, "dev/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))); err != nil {
		return err
	}
	for name, content := range sampleFiles {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	for _, program := range samplePrograms {
		if err := copyProgram(dir, program); err != nil {
			return err
		}
	}
	return nil
}

// copyProgram copies a program from $PATH with its libraries, which stay where
// they are on this machine.
func copyProgram(dir, name string) error {
	path, err := exec.LookPath(name)
	if err != nil {
		return err
	}
	if err := copyFile(path, filepath.Join(dir, "usr/bin", name)); err != nil {
		return err
	}
	// ldd fails for a static program, which needs no library.
	text, _ := exec.Command("ldd", path).Output()
	for _, word := range strings.Fields(string(text)) {
		if !filepath.IsAbs(word) {
			continue
		}
		if err := copyFile(word, filepath.Join(dir, word)); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) error {
	if _, err := os.Stat(to); err == nil {
		return nil
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o755)
}

// listTree describes what is in a tree, by path; directories only by their mode.
func listTree(root string) (map[string]string, error) {
	tree := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		description := info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			description = fmt.Sprintf("%s %d bytes %d", description, info.Size(), info.ModTime().UnixNano())
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			description += " -> " + target
		}
		tree[strings.TrimPrefix(path, root)] = description
		return nil
	})
	return tree, err
}

// changes lists what differs between two trees, sorted by path.
func changes(before, after map[string]string) []string {
	var lines []string
	for path, description := range after {
		old, there := before[path]
		switch {
		case !there:
			lines = append(lines, path+"  added")
		case old != description:
			lines = append(lines, path+"  changed")
		}
	}
	for path := range before {
		if _, there := after[path]; !there {
			lines = append(lines, path+"  removed")
		}
	}
	slices.Sort(lines)
	return lines
}
