package entrypoint

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"buildenv/agent"
	"buildenv/artifacts"
	"buildenv/artifacts/squashfs"
	"buildenv/artifacts/store/dir"
)

// packageFlags are the flags of package; customize shares most of them.
type packageFlags struct {
	root, name, to, arch, job string
	boot                      bootNames
	pack                      artifacts.PackOptions
	asJSON                    bool
}

func newPackageCommand(s streams) *cobra.Command {
	var f packageFlags
	c := &cobra.Command{
		Use:   "package --root DIR --name NAME --to STORE",
		Short: "Make an image of an image root: squashfs, kernel, initrd, manifest, record",
		Long: `Packs the image root into a squashfs archive and stores it with the kernel and
the initrd of its /boot folder, a manifest, and last of all the image's record.
The image root itself is not changed. STORE is file:///DIR.`,
		Example: "  buildenv package --root /mnt/image/image-root --name compute --to file:///srv/images",
		Args:    args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := f.check("root", f.root, "name", f.name, "to", f.to); err != nil {
				return err
			}
			if err := checkFrom(f.pack.From); err != nil {
				return err
			}
			return f.run(c.Context(), s)
		},
	}
	c.Flags().StringVar(&f.root, "root", "", "the image root")
	c.Flags().StringVar(&f.pack.From, "from", "", "the squashfs that the root was unpacked from; what has not changed is taken from it (default: the one that prepare has kept)")
	c.Flags().StringVar(&f.job, "job", "", "id of the job to name in the image's metadata")
	f.register(c)
	return c
}

// register adds the flags that describe the image.
func (f *packageFlags) register(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.name, "name", "", "the image's name")
	flags.StringVar(&f.to, "to", "", "store: file:///DIR")
	flags.StringVar(&f.arch, "arch", "", "architecture of the image: x86_64 or aarch64 (default $BUILD_ARCH or x86_64)")
	flags.StringVar(&f.boot.kernel, "kernel", "", "kernel in /boot (default $KERNEL_FILENAME or vmlinuz; Image on aarch64)")
	flags.StringVar(&f.boot.initrd, "initrd", "", "initrd in /boot (default $INITRD_FILENAME or initrd)")
	flags.StringVar(&f.boot.parameters, "parameters", "", "kernel parameters file in /boot (default $KERNEL_PARAMETERS_FILENAME)")
	registerPack(flags, &f.pack)
	flags.BoolVar(&f.pack.Verify, "verify", false, "read all files, also those that look as they did when they were unpacked")
	flags.BoolVar(&f.asJSON, "json", false, "print the image and its manifest as JSON")
}

// registerPack adds the flags that describe an archive.
func registerPack(flags *pflag.FlagSet, pack *artifacts.PackOptions) {
	flags.StringVar(&pack.Compression, "compression", "", "gzip, zstd, xz or none (default: that of the squashfs that the root was unpacked from, else gzip)")
	flags.IntVar(&pack.Level, "level", 0, "compression level: gzip 1 to 9, zstd 1 to 22 (default 6 and 3)")
	flags.Var(layout{&pack.Layout}, "layout", "compact, or append: what is unchanged stays at the offset that it has in the squashfs that the root was unpacked from, so that a store can copy it by itself (default compact)")
	flags.Var(optional{&pack.Created}, "mkfs-time", "the archive's own time, in seconds since 1970 (default $SOURCE_DATE_EPOCH or the newest file's)")
}

// checkFrom tells whether a file is a squashfs; "" is none, and allowed.
func checkFrom(name string) error {
	if name == "" {
		return nil
	}
	if _, err := squashfsInfo(name); err != nil {
		return fmt.Errorf("--from %s: %w", name, err)
	}
	return nil
}

// layout is a flag; CheckOptions knows what it may be.
type layout struct{ *artifacts.Layout }

func (l layout) Type() string { return "string" }

func (l layout) String() string {
	if l.Layout == nil {
		return ""
	}
	return string(*l.Layout)
}

func (l layout) Set(text string) error {
	*l.Layout = artifacts.Layout(text)
	return nil
}

// optional is a flag whose absence is not zero.
type optional struct{ value **int64 }

func (o optional) Type() string { return "int" }

func (o optional) String() string {
	if *o.value == nil {
		return ""
	}
	return strconv.FormatInt(**o.value, 10)
}

func (o optional) Set(text string) error {
	n, err := strconv.ParseInt(text, 10, 64)
	*o.value = &n
	return err
}

// check complains about flags that must be given, by pairs of name and value,
// and about a store that cannot be one.
func (f *packageFlags) check(pairs ...string) error {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			return usagef("--%s is missing; see --help", pairs[i])
		}
	}
	if err := checkStore(f.to); err != nil {
		return usagef("--to: %w", err)
	}
	if err := squashfs.CheckOptions(f.pack); err != nil {
		return usageError{err}
	}
	return nil
}

// config is the environment's configuration with the flags on top.
func (f *packageFlags) config() (Config, error) {
	cfg, err := readEnvironment()
	for _, set := range []struct {
		field *string
		value string
	}{
		{&cfg.Arch, f.arch}, {&cfg.KernelFilename, f.boot.kernel}, {&cfg.InitrdFilename, f.boot.initrd},
		{&cfg.ParametersName, f.boot.parameters}, {&cfg.ImageName, f.name}, {&cfg.ArtifactStore, f.to},
	} {
		if set.value != "" {
			*set.field = set.value
		}
	}
	if err == nil {
		err = cfg.complete()
	}
	if err != nil {
		return cfg, usageError{err}
	}
	return cfg, nil
}

func (f *packageFlags) run(ctx context.Context, s streams) (err error) {
	cfg, err := f.config()
	if err != nil {
		return err
	}
	log := newLogger(s.err, cfg)
	detach, err := attachToPackage(f.root)
	if err != nil {
		return err
	}
	defer detaching(detach, &err)
	st, err := openStore(f.to, cfg.S3Bucket, log)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp(st.root, dir.WorkPrefix+"package-")
	if err != nil {
		return fmt.Errorf("make a folder for the archive: %w", err)
	}
	defer os.RemoveAll(work)
	p := &agent.Publisher{Store: st.objects, Registry: st.registry, Packer: squashfs.Packer{Log: log},
		Pack: cfg.packOptions(f.pack), Changes: comparing(log), WorkDir: work, Log: log}
	result, err := publishRoot(ctx, s.err, p,
		agent.Order{Root: f.root, Name: cfg.ImageName, Arch: cfg.Arch, Job: f.job},
		bootNames{cfg.KernelFilename, cfg.InitrdFilename, cfg.ParametersName})
	if err != nil {
		return err
	}
	return f.print(s.out, cfg, result)
}

func (f *packageFlags) print(out io.Writer, cfg Config, result agent.Result) error {
	if !f.asJSON {
		return printResult(out, cfg, result)
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(result)
}
