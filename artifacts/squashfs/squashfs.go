// Package squashfs reads squashfs archives of image roots, and makes them by
// driving mksquashfs(1).
//
// The tool makes them; the package sees to what a job needs around it:
//
//   - an archive or a tree is there whole or not at all: until it is complete
//     it has a temporary name beside its own;
//   - a tool never outlives its job: it ends when the context does;
//   - what a tool complains about becomes the error, and what it leaves out
//     becomes a warning with the file's name;
//   - what is mounted below a root is not archived, only the empty directory
//     that it is mounted on.
//
// The format knows the extended attributes of the namespaces user, trusted and
// security. POSIX access control lists live in system and are lost; packing
// names the files that had one.
package squashfs

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"buildenv/internal/execx"
)

// keptLines is how many lines of a tool's output an error shows: the reason
// stands at the end.
const keptLines = 5

// runTool runs a tool. When it fails, its last lines are the error's text. hear
// is told each line and started the process id; both may be nil.
func runTool(ctx context.Context, cmd *exec.Cmd, hear func(line string), started func(pid int)) error {
	tool := cmd.Args[0]
	var last []string
	err := execx.Watch(ctx, cmd, func(line string) {
		last = append(last[max(0, len(last)-keptLines+1):], line)
		if hear != nil {
			hear(line)
		}
	}, started)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("%s: %w: install squashfs-tools", tool, exec.ErrNotFound)
	case ctx.Err() != nil || len(last) == 0:
		return fmt.Errorf("%s: %w", tool, err)
	}
	return fmt.Errorf("%s: %s: %w", tool, strings.Join(last, "; "), err)
}
