package entrypoint

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"buildenv/artifacts"
	"buildenv/artifacts/source"
	"buildenv/artifacts/squashfs"
	"buildenv/internal/progress"
)

func newSquashfsCommand(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:     "squashfs pack | unpack | info",
		Short:   "Make, unpack or describe a squashfs archive",
		Example: "  buildenv squashfs pack image-root image.squashfs\n  buildenv squashfs info image.squashfs",
		Args: func(_ *cobra.Command, given []string) error {
			if len(given) == 0 {
				return usagef("squashfs: give one of pack, unpack, info; see --help")
			}
			return usagef("squashfs: %q is none of pack, unpack, info", given[0])
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	c.AddCommand(newSquashfsPackCommand(s), newSquashfsUnpackCommand(s), newSquashfsInfoCommand(s))
	return c
}

func newSquashfsPackCommand(s streams) *cobra.Command {
	var pack artifacts.PackOptions
	asJSON := false
	c := &cobra.Command{
		Use:   "pack DIR FILE",
		Short: "Make a squashfs archive of a directory",
		Long: `Makes FILE, which must not exist, an archive of DIR. The same directory and flags
make the same bytes on every machine. What is mounted below DIR is left out.
$SOURCE_DATE_EPOCH bounds the times of files.`,
		Example: "  buildenv squashfs pack image-root image.squashfs\n  buildenv squashfs pack --from base.squashfs image-root image.squashfs\n  buildenv squashfs pack --compression zstd --exclude var/cache --exclude tmp image-root image.squashfs",
		Args:    args(2, 2),
		RunE: func(c *cobra.Command, given []string) error {
			if err := squashfs.CheckOptions(pack); err != nil {
				return usageError{err}
			}
			if pack.Layout == artifacts.LayoutAppend && pack.From == "" {
				return usagef("--layout append: --from is missing")
			}
			if err := checkFrom(pack.From); err != nil {
				return err
			}
			result, err := squashfsPack(c.Context(), s, given[0], given[1], pack)
			if err != nil {
				return err
			}
			return result.print(s.out, asJSON)
		},
	}
	registerPack(c.Flags(), &pack)
	c.Flags().IntVar(&pack.BlockSize, "block-size", 0, "bytes, a power of two from 4096 to 1048576 (default: that of --from, else 131072)")
	c.Flags().StringVar(&pack.From, "from", "", "the squashfs that DIR was unpacked from; what has not changed is taken from it")
	c.Flags().StringVar(&pack.Record, "record", "", "what unpack --record has written; files that look as they did are not read")
	c.Flags().BoolVar(&pack.Verify, "verify", false, "read all files, whatever the record says")
	c.Flags().IntVar(&pack.Processors, "processors", 0, "how many processors to use (default all)")
	c.Flags().StringArrayVar(&pack.Exclude, "exclude", nil, "path below DIR to leave out; may be given again")
	c.Flags().BoolVar(&asJSON, "json", false, "print the archive and which of its ranges --from has at the same offset as JSON")
	return c
}

// packed is an archive that has been made.
type packed struct {
	Archive   string            `json:"archive"`
	Unchanged []artifacts.Range `json:"unchanged"` // at the same offset in --from
}

func (p packed) print(out io.Writer, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(p)
	}
	_, err := fmt.Fprintln(out, p.Archive)
	return err
}

func squashfsPack(ctx context.Context, s streams, dir, file string, pack artifacts.PackOptions) (packed, error) {
	result := packed{Archive: file, Unchanged: []artifacts.Range{}}
	cfg, err := readEnvironment()
	if err != nil {
		return result, usageError{err}
	}
	if err := mustShow(dir); err != nil {
		return result, fmt.Errorf("pack: %w", err)
	}
	if o := source.OverlayOf(dir); o.Exists() {
		_, pack.Record = source.Kept(o.Root)
		pack.Upper = o.Upper()
	}
	log := newLogger(s.err, cfg)
	meter := progress.Start(s.err, log, "packing", 0)
	defer meter.Done()
	pack.Progress = meter.Of
	pack.Unchanged = func(ranges []artifacts.Range) { result.Unchanged = append(result.Unchanged, ranges...) }
	err = squashfs.Packer{Log: log}.Pack(ctx, dir, file, cfg.packOptions(pack))
	meter.Done()
	return result, err
}

func newSquashfsUnpackCommand(s streams) *cobra.Command {
	var opts squashfs.UnpackOptions
	c := &cobra.Command{
		Use:   "unpack FILE DIR",
		Short: "Make a directory of a squashfs archive",
		Long: `Makes DIR, which must not exist or be empty, of the archive FILE: owners, modes,
times, devices, hard links, holes and extended attributes included.`,
		Example: "  buildenv squashfs unpack image.squashfs image-root",
		Args:    args(2, 2),
		RunE: func(c *cobra.Command, given []string) error {
			return squashfsUnpack(c.Context(), s, given[0], given[1], opts)
		},
	}
	c.Flags().StringVar(&opts.Record, "record", "", "file to write down in what the files look like, for pack --record")
	c.Flags().IntVar(&opts.Processors, "processors", 0, "how many processors to use (default all)")
	return c
}

func squashfsUnpack(ctx context.Context, s streams, file, dir string, opts squashfs.UnpackOptions) error {
	cfg, err := readEnvironment()
	if err != nil {
		return usageError{err}
	}
	opts.Log = newLogger(s.err, cfg)
	meter := progress.Start(s.err, opts.Log, "unpacking", 0)
	defer meter.Done()
	opts.Progress = meter.Of
	if err := squashfs.Unpack(ctx, file, dir, opts); err != nil {
		return fmt.Errorf("unpack %s: %w", file, err)
	}
	meter.Done()
	_, err = fmt.Fprintln(s.out, dir)
	return err
}

func newSquashfsInfoCommand(s streams) *cobra.Command {
	asJSON := false
	c := &cobra.Command{
		Use:     "info FILE",
		Short:   "Tell what a squashfs archive is",
		Example: "  buildenv squashfs info image.squashfs\n  buildenv squashfs info --json image.squashfs",
		Args:    args(1, 1),
		RunE: func(_ *cobra.Command, given []string) error {
			info, err := squashfsInfo(given[0])
			if err != nil {
				return fmt.Errorf("%s: %w", filepath.Clean(given[0]), err)
			}
			if asJSON {
				encoder := json.NewEncoder(s.out)
				encoder.SetIndent("", "  ")
				return encoder.Encode(info)
			}
			return printInfo(s.out, info)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return c
}

func squashfsInfo(name string) (squashfs.Info, error) {
	f, err := os.Open(name)
	if err != nil {
		return squashfs.Info{}, err
	}
	defer f.Close()
	a, err := squashfs.Open(f)
	if err != nil {
		return squashfs.Info{}, err
	}
	return a.Info(), nil
}

func printInfo(out io.Writer, info squashfs.Info) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, line := range []struct {
		what  string
		value any
	}{
		{"compression", info.Compression}, {"level", info.Level}, {"block size", info.BlockSize},
		{"created", info.Created.Format(time.RFC3339)}, {"size", info.Size}, {"inodes", info.Inodes},
		{"fragments", info.Fragments}, {"owners", info.IDs}, {"sets of attributes", info.Xattrs}, {"exportable", info.Exportable},
	} {
		fmt.Fprintf(w, "%s\t%v\n", line.what, line.value)
	}
	return w.Flush()
}
