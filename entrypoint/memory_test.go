package entrypoint

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
)

func TestMemoryLimit(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  int64 // 0 for none
	}{
		"no control groups":        {nil, 0},
		"no limit":                 {map[string]string{"sys/fs/cgroup/memory.max": "max\n", "proc/self/cgroup": "0::/\n"}, 0},
		"a container's own":        {map[string]string{"sys/fs/cgroup/memory.max": "1000\n", "proc/self/cgroup": "0::/\n"}, 1000},
		"under its outer name":     {map[string]string{"sys/fs/cgroup/memory.max": "1000\n", "proc/self/cgroup": "0::/kubepods/pod1/c\n"}, 1000},
		"the least of those above": {map[string]string{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": "500\n", "sys/fs/cgroup/a/b/memory.max": "700\n"}, 500},
		"version 1": {map[string]string{"proc/self/cgroup": "5:cpu:/x\n4:memory:/a\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "300\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 300},
		"version 1, no limit": {map[string]string{"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 0},
		"a machine": {map[string]string{"proc/meminfo": "MemTotal:           2048 kB\nMemFree: 5 kB\n",
			"sys/fs/cgroup/memory.max": "max\n"}, 2 << 20},
		"less than the machine's": {map[string]string{"proc/meminfo": "MemTotal: 2048 kB\n", "sys/fs/cgroup/memory.max": "1000\n"}, 1000},
		"nonsense":                {map[string]string{"sys/fs/cgroup/memory.max": "-5\n", "proc/self/cgroup": "\n:::\n0\n", "proc/meminfo": "MemTotal: -1"}, 0},
	} {
		root := t.TempDir()
		for file, text := range c.files {
			file = filepath.Join(root, file)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		limit, ok := memoryLimit(root)
		if ok != (c.want != 0) || ok && limit != c.want {
			t.Errorf("%s: %d, %v; want %d", name, limit, ok, c.want)
		}
	}
}

// TestTuneMemory: the user's own word counts, and the collector runs seldom only
// where memory is bounded.
func TestTuneMemory(t *testing.T) {
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	defer debug.SetGCPercent(percent)
	defer debug.SetMemoryLimit(limit)
	for name, c := range map[string]struct {
		env         map[string]string
		group       int64 // limit of the control group, 0 for none
		before      int64 // of the collector, as GOMEMLIMIT sets it at the start
		percent     int
		memoryLimit int64
	}{
		"nothing known":        {nil, 0, math.MaxInt64, 100, math.MaxInt64},
		"a control group":      {nil, 1 << 30, math.MaxInt64, busyGC, 1 << 30 / 10 * 9},
		"GOMEMLIMIT":           {map[string]string{"GOMEMLIMIT": "1GiB"}, 1 << 20, 1 << 30, busyGC, 1 << 30},
		"GOMEMLIMIT=off":       {map[string]string{"GOMEMLIMIT": "off"}, 1 << 30, math.MaxInt64, 100, math.MaxInt64},
		"GOGC":                 {map[string]string{"GOGC": "100"}, 1 << 30, math.MaxInt64, 100, math.MaxInt64},
		"GOGC with GOMEMLIMIT": {map[string]string{"GOGC": "100", "GOMEMLIMIT": "1GiB"}, 0, 1 << 30, 100, 1 << 30},
	} {
		debug.SetGCPercent(100)
		debug.SetMemoryLimit(c.before)
		tune(func(key string) bool { return c.env[key] != "" }, func() (int64, bool) { return c.group, c.group > 0 })
		if got := debug.SetGCPercent(100); got != c.percent {
			t.Errorf("%s: GC percent %d, want %d", name, got, c.percent)
		}
		if got := debug.SetMemoryLimit(-1); got != c.memoryLimit {
			t.Errorf("%s: memory limit %d, want %d", name, got, c.memoryLimit)
		}
	}
}
