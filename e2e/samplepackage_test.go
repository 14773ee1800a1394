package e2e

import (
	"os"
	"path/filepath"
	"testing"
)

// samplePackage builds a small Debian package, sample.deb, with what packages
// do to a system: files of several owners, names of one file, a configuration
// file, and a script that adds an account and sets a setuid bit.
func samplePackage(t *testing.T) string {
	t.Helper()
	tree := filepath.Join(t.TempDir(), "sample")
	at := func(name string) string { return filepath.Join(tree, name) }
	for _, dir := range []string{"DEBIAN", "etc", "usr/bin", "usr/lib/sample", "var/lib/sample"} {
		must(t, os.MkdirAll(at(dir), 0o755))
	}
	for _, file := range []struct {
		name, content string
		mode          os.FileMode
		uid, gid      int
	}{
		{"DEBIAN/control", sampleControl, 0o644, 0, 0},
		{"DEBIAN/conffiles", "/etc/sample.conf\n", 0o644, 0, 0},
		{"DEBIAN/postinst", samplePostinst, 0o755, 0, 0},
		{"etc/sample.conf", "colour = green\n", 0o640, 0, 42}, // shadow, in every Debian
		{"usr/bin/sample-helper", "#!/bin/sh\necho helped\n", 0o755, 0, 0},
		{"usr/lib/sample/data", "one file\n", 0o644, 0, 0},
		{"usr/lib/sample/foreign", "nobody's\n", 0o600, 12345, 54321},
	} {
		must(t, os.WriteFile(at(file.name), []byte(file.content), 0o600))
		must(t, os.Chown(at(file.name), file.uid, file.gid))
		must(t, os.Chmod(at(file.name), file.mode))
	}
	must(t, os.Link(at("usr/lib/sample/data"), at("usr/lib/sample/data-again")))
	tool(t, "dpkg-deb", "--build", "-Zgzip", tree)
	return tree + ".deb"
}

const sampleControl = `Package: sample
Version: 1.0
Architecture: all
Maintainer: Nobody <nobody@example.com>
Depends: passwd
Description: a package for tests
`

const samplePostinst = `#!/bin/sh
set -e
if [ "$1" = configure ]; then
	groupadd --system sample
	useradd --system --gid sample --no-create-home --home-dir /var/lib/sample --shell /usr/sbin/nologin sample
	chown sample:sample /var/lib/sample
	chmod 2750 /var/lib/sample
	chmod 4755 /usr/bin/sample-helper
	ln -s sample-helper /usr/bin/sample
fi
`
