package jail

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// CheckPath tells whether dir may be a root directory for logins, by sshd's
// rule (sshd_config(5), ChrootDirectory): it is an absolute path to a
// directory, and no component of it may be replaced or written by anybody but
// root. The error names the component and the repair. Links are followed, and
// what they lead through is not looked at, as with sshd.
func CheckPath(dir string) error {
	if !filepath.IsAbs(dir) {
		return fmt.Errorf("chroot path %q is not absolute", dir)
	}
	component := "/"
	for _, name := range append([]string{""}, strings.Split(strings.Trim(filepath.Clean(dir), "/"), "/")...) {
		component = filepath.Join(component, name)
		if err := checkComponent(component); err != nil {
			return err
		}
	}
	return nil
}

func checkComponent(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("chroot directory: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("chroot path %q is not a directory", name)
	}
	if info.Sys().(*syscall.Stat_t).Uid != 0 {
		return badComponent(name, "chown root "+name)
	}
	switch {
	case info.Mode().Perm()&0o022 == 0:
		return nil
	case info.Mode()&os.ModeSticky != 0: // /tmp and the like are for everybody, and must stay so
		return badComponent(name, "a place for the image root that is not below it")
	}
	return badComponent(name, "chmod go-w "+name)
}

func badComponent(name, repair string) error {
	return fmt.Errorf("bad ownership or modes for chroot directory component %q: try %s", name, repair)
}
