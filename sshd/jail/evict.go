package jail

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// How long the inhabitants of a jail may take to leave after each signal, and
// how often they are counted: other people's children announce their end to nobody.
const (
	termPatience = time.Second
	killPatience = 2 * time.Second
	countPace    = 5 * time.Millisecond
)

// Evict ends every process whose root directory is dir or lies below it:
// daemons that a package has started in the image, above all, which have left
// the session that installed them. It returns when none is left.
func Evict(ctx context.Context, dir string) error {
	dir, err := filepath.EvalSymlinks(dir)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("evict: %w", err)
	}
	for _, step := range []struct {
		signal   unix.Signal
		patience time.Duration
	}{{unix.SIGTERM, termPatience}, {unix.SIGKILL, killPatience}} {
		if empty(ctx, dir, step.signal, step.patience) {
			return nil
		}
	}
	return fmt.Errorf("evict: %s: processes %v are still there after SIGKILL", dir, inhabitants(dir))
}

// empty signals whoever lives in dir, each once, also those who are born
// meanwhile, and waits until nobody does, for patience at most.
func empty(ctx context.Context, dir string, signal unix.Signal, patience time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(countPace)
	defer tick.Stop()
	told := map[int]bool{}
	for {
		pids := inhabitants(dir)
		if len(pids) == 0 {
			return true
		}
		for _, pid := range pids {
			if !told[pid] {
				told[pid] = true
				unix.Kill(pid, signal) // it may have ended just now
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}

// inhabitants are the processes whose root directory is in dir, this one
// excepted, whose jails are threads. A process that has ended, a zombie too,
// has no root directory.
func inhabitants(dir string) []int {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1)
	var pids []int
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == os.Getpid() {
			continue
		}
		root, err := os.Readlink("/proc/" + name + "/root")
		if err == nil && (root == dir || strings.HasPrefix(root, dir+"/")) {
			pids = append(pids, pid)
		}
	}
	return pids
}
