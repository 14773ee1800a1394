package entrypoint

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
)

// busyGC is the percentage of a collector that runs seldom: a third less
// processor time for a transfer, at the price of memory that is there anyway.
const busyGC = 400

// tuneMemory lets the collector run more seldom, within a bound on memory that it
// will respect. Who sets GOGC has decided himself.
func tuneMemory() {
	tune(
		func(variable string) bool { _, set := os.LookupEnv(variable); return set },
		func() (int64, bool) { return memoryLimit("/") })
}

func tune(isSet func(variable string) bool, limit func() (int64, bool)) {
	if isSet("GOGC") {
		return
	}
	if !isSet("GOMEMLIMIT") { // else the runtime has obeyed it
		if most, known := limit(); known {
			debug.SetMemoryLimit(most / 10 * 9) // the rest is for what is not the collector's
		}
	}
	if debug.SetMemoryLimit(-1) != math.MaxInt64 {
		debug.SetGCPercent(busyGC)
	}
}

// memoryLimit is the least of the machine's memory and the limits of the control
// groups that the process is in (cgroups(7)), in bytes, seen from the root
// directory root. It is false where nothing can be seen.
func memoryLimit(root string) (limit int64, ok bool) {
	limit = machineMemory(root)
	for _, file := range limitFiles(root) {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64) // "max" is none
		if err == nil && n > 0 && n < limit {
			limit = n
		}
	}
	return limit, limit < noLimit
}

// machineMemory is that of /proc/meminfo (proc_meminfo(5)).
func machineMemory(root string) int64 {
	text, _ := os.ReadFile(filepath.Join(root, "proc/meminfo"))
	var kib int64
	if _, err := fmt.Sscanf(string(text), "MemTotal: %d kB", &kib); err != nil || kib <= 0 || kib > noLimit>>10 {
		return math.MaxInt64
	}
	return kib << 10
}

// noLimit is what version 1 has for no limit, all pages that a long can count, and
// more than any machine has.
const noLimit = 1 << 60

// limitFiles are the files that may have a limit: those of the process's group and
// of all above it, for versions 2 and 1 of the interface. A container often
// sees its own group as the root, whatever name it has outside.
func limitFiles(root string) []string {
	top, legacy := filepath.Join(root, "sys/fs/cgroup"), filepath.Join(root, "sys/fs/cgroup/memory")
	files := []string{filepath.Join(top, "memory.max"), filepath.Join(legacy, "memory.limit_in_bytes")}
	f, err := os.Open(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return files
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		_, rest, _ := strings.Cut(lines.Text(), ":")
		controllers, group, _ := strings.Cut(rest, ":")
		mount, name := top, "memory.max"
		if controllers != "" { // version 1
			mount, name = legacy, "memory.limit_in_bytes"
		}
		if controllers != "" && controllers != "memory" {
			continue
		}
		for ; group != "/" && group != "" && group != "."; group = filepath.Dir(group) {
			files = append(files, filepath.Join(mount, group, name))
		}
	}
	return files
}
