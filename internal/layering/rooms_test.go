package layering

import "strings"

// rooms is the plan of the house (docs/architecture.md): what a package may
// import besides the standard library and what is allowed everywhere. A name
// that ends in "/..." stands for everything below it.
var rooms = map[string][]string{
	"cmd/buildenv": {"buildenv/entrypoint"},
	"entrypoint": {
		"buildenv/agent/...", "buildenv/sshd/...", "buildenv/artifacts/...",
		"github.com/spf13/cobra", "github.com/spf13/pflag", "github.com/kelseyhightower/envconfig", "golang.org/x/term",
		"golang.org/x/crypto/ssh/...",
	},

	"agent":        {"buildenv/artifacts", "buildenv/agent/marker"},
	"agent/marker": {"github.com/fsnotify/fsnotify"},
	"agent/remote": {"golang.org/x/crypto/ssh/...", "github.com/pkg/sftp"},

	"sshd":            {"buildenv/sshd/...", "github.com/gliderlabs/ssh", "golang.org/x/crypto/ssh"},
	"sshd/sshdconfig": {},
	"sshd/authkeys":   {"golang.org/x/crypto/ssh"},
	"sshd/session":    {"buildenv/sshd/sftp", "buildenv/sshd/scp", "buildenv/sshd/jail", "golang.org/x/crypto/ssh"},
	"sshd/sftp":       {"buildenv/sshd/jail"},
	"sshd/scp":        {"buildenv/sshd/jail"},
	"sshd/forward":    {"buildenv/sshd/jail", "golang.org/x/crypto/ssh"},
	"sshd/jail":       {},

	"artifacts":        {},
	"artifacts/source": {"buildenv/artifacts/...", "github.com/klauspost/compress/..."},
	"artifacts/rootfs": {"buildenv/artifacts", "github.com/cyphar/filepath-securejoin/...", "github.com/moby/sys/mountinfo"},
	"artifacts/squashfs": {
		"buildenv/artifacts", "github.com/klauspost/compress/...",
		"github.com/anchore/go-lzo", "github.com/pierrec/lz4/v4", "github.com/ulikunitz/xz/...",
	},
	"artifacts/oci":       {"buildenv/artifacts", "github.com/google/go-containerregistry/..."},
	"artifacts/bundle":    {"buildenv/artifacts", "buildenv/artifacts/rootfs"},
	"artifacts/store/dir": {"buildenv/artifacts", "github.com/google/uuid"},
	"artifacts/store/s3":  {"buildenv/artifacts", "github.com/minio/minio-go/..."},
	"artifacts/ims":       {"buildenv/artifacts"},

	// Conformance suites and servers for tests, which ship with what they test.
	"artifacts/store/storetest": {"buildenv/artifacts"},
	"artifacts/ims/imstest":     {"buildenv/artifacts"},

	"internal/...":      {},
	"internal/progress": {"golang.org/x/term"},

	"e2e": {},
}

// everywhere is what any package may import: small parts of our own, and the
// kernel's interface and the Go project's helpers for goroutines.
var everywhere = []string{"buildenv/internal/...", "golang.org/x/sys/...", "golang.org/x/sync/..."}

// strangers must not depend on each other, nor by way of a third.
var strangers = []struct{ of, to string }{
	{"sshd", "artifacts"}, {"sshd", "agent"},
	{"artifacts", "sshd"}, {"artifacts", "agent"},
	{"agent", "sshd"},
	{"internal", "sshd"}, {"internal", "artifacts"}, {"internal", "agent"},
}

// reservedFor says which folder alone may use a function.
var reservedFor = map[string]string{
	"os.Exit":      "cmd",
	"syscall.Exit": "cmd",
	"log.Fatal":    "cmd",
	"log.Fatalf":   "cmd",
	"log.Fatalln":  "cmd",

	"os.Getenv":      "entrypoint",
	"os.LookupEnv":   "entrypoint",
	"os.Environ":     "entrypoint",
	"os.ExpandEnv":   "entrypoint",
	"syscall.Getenv": "entrypoint",
}

// room finds a package's row, or the row with "/..." that it falls under.
func room(pkg string) ([]string, bool) {
	if allowed, ok := rooms[pkg]; ok {
		return allowed, true
	}
	for pattern, allowed := range rooms {
		if folder, ok := strings.CutSuffix(pattern, "/..."); ok && below(pkg, folder) {
			return allowed, true
		}
	}
	return nil, false
}

// within tells whether an import matches one of the patterns.
func within(imported string, patterns []string) bool {
	for _, pattern := range patterns {
		folder, all := strings.CutSuffix(pattern, "/...")
		if imported == folder || all && below(imported, folder) {
			return true
		}
	}
	return false
}

// below tells whether a package is folder or lies in it.
func below(pkg, folder string) bool {
	return pkg == folder || strings.HasPrefix(pkg, folder+"/")
}
