package e2e

import (
	"os"
	"testing"
)

// customizeScript changes one of a hundred files of the image: in turn it changes
// the content, the mode, removes the file, and adds another.
const customizeScript = `#!/bin/sh -e
cd "${IMAGE_ROOT_PARENT:-$1}/image-root"
find usr etc -xdev -type f | sort | awk 'NR % 400 == 50' | while read -r f; do echo changed >> "$f"; done
find usr etc -xdev -type f | sort | awk 'NR % 400 == 150' | while read -r f; do chmod 640 "$f"; done
find usr etc -xdev -type f | sort | awk 'NR % 400 == 250' | while read -r f; do rm "$f"; done
find usr etc -xdev -type f | sort | awk 'NR % 400 == 350' | while read -r f; do cp "$f" "$f.added"; done
`

// BenchmarkSquashfsCustomize: the whole of customize, from a squashfs to the stored
// image, with a root that is an overlay, in turn with one that is unpacked, and with
// what an administrator does by hand: unsquashfs, the script, mksquashfs at the
// same level, an MD5 of the archive. The yardstick goes by the name of tools in both.
func BenchmarkSquashfsCustomize(b *testing.B) {
	w := squashfsPlace(b)
	w.must(b, "mksquashfs", w.root, w.in("base.sqsh"), "-quiet", "-no-progress", "-Xcompression-level", "6",
		"-e", "opt/quirks/whiteout") // which no overlay can show
	if err := os.WriteFile(w.in("script"), []byte(customizeScript), 0o700); err != nil {
		b.Fatal(err)
	}
	customize := func(mode, out string) []string {
		return []string{w.binary, "customize", "--from", w.in("base.sqsh"), "--name", "bench", "--to", "file://" + w.out(out),
			"--script", w.in("script"), "--root-mode", mode, "--work", w.in("work")}
	}
	clean := func(argv []string) []string { // a folder that is given stays
		return append([]string{"sh", "-ec", `"$@"; rm -r "$0"`, w.in("work")}, argv...)
	}
	byHand := []string{"sh", "-ec", `mkdir "$1"; unsquashfs -quiet -no-progress -dest "$1/image-root" "$2"; "$3" "$1"
mksquashfs "$1/image-root" "$4" -quiet -no-progress -Xcompression-level 6; md5sum "$4"; rm -r "$1"`,
		"sh", w.in("work"), w.in("base.sqsh"), w.in("script"), w.out("tools")}
	for _, c := range []squashfsCase{
		{"overlay-to-unpacked", clean(customize("overlay", "ours")), clean(customize("unpack", "tools")), squashfsRounds},
		{"overlay-to-tools", clean(customize("overlay", "ours")), byHand, squashfsRounds},
	} {
		b.Run(c.name, func(b *testing.B) { w.compare(b, c) })
	}
}
