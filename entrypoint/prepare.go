package entrypoint

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"buildenv/agent"
	"buildenv/agent/marker"
	"buildenv/artifacts/rootfs"
	"buildenv/artifacts/source"
	"buildenv/internal/redact"
)

func newPrepareCommand(s streams) *cobra.Command {
	var mode source.Mode
	c := &cobra.Command{
		Use:   "prepare IMAGE_ROOT_PARENT SOURCE",
		Short: "Unpack an image to IMAGE_ROOT_PARENT/image-root",
		Long: `Makes IMAGE_ROOT_PARENT/image-root out of SOURCE: a directory, a tar (plain, gzip
or zstd) or a squashfs file, or the URL (http, https) of such a file, which is
unpacked while it arrives. The image root appears when it is whole and has the
MD5 that $DOWNLOAD_MD5SUM names; markers of an earlier job are removed. A download
that was interrupted goes on when it is started again.

With --root-mode overlay a squashfs is mounted and not unpacked. The image root is
then seen in this container only; buildenv run and package mount it again.`,
		Example: "  buildenv prepare /mnt/image compute.squashfs\n  buildenv prepare /mnt/image 'https://s3.example/images/compute?X-Amz-Signature=…'",
		Args:    args(2, 2),
		RunE: func(c *cobra.Command, given []string) error {
			cfg, err := readEnvironment() // what is published, and where, is not asked yet
			if err != nil {
				return err
			}
			cfg.ImageRootParent = given[0]
			release, err := claim(&cfg)
			if err != nil {
				return err
			}
			defer release()
			log := newLogger(s.err, cfg)
			if !source.Remote(given[1]) { // what is fetched is looked at while it arrives
				if err := checkMD5(given[1], cfg.DownloadMD5); err != nil {
					return err
				}
			}
			if err := prepare(c.Context(), s, log, cfg, mode, given[1]); err != nil {
				return err
			}
			_, err = fmt.Fprintln(s.out, filepath.Join(cfg.ImageRootParent, imageRoot))
			return err
		},
	}
	registerRootMode(c.Flags(), &mode, source.ModeUnpack)
	return c
}

// imageRoot is the folder of a customize job's image root.
const imageRoot = "image-root"

// prepare makes src the image root below parent.
func prepare(ctx context.Context, s streams, log *slog.Logger, cfg Config, mode source.Mode, src string) error {
	parent := cfg.ImageRootParent
	if strings.Contains(src, "://") && !source.Remote(src) {
		return usagef("prepare: %s: a source is a directory, a tar or a squashfs file, or the http or https URL of one", redact.URL(src))
	}
	roots, err := cfg.trusted(src)
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	dst := filepath.Join(parent, imageRoot)
	if _, err := os.Lstat(dst); err == nil {
		return fmt.Errorf("prepare: %s is there already, perhaps with somebody's work in it; unmount what is mounted below it and remove it first", dst)
	}
	if err := clearJob(parent); err != nil {
		return fmt.Errorf("prepare: remove an earlier job's markers: %w", err)
	}
	meters := startUnpackMeters(s.err, log, source.Remote(src))
	defer meters.done()
	log.Info("making the image root", "from", source.Show(src), "at", dst)
	if err := source.Make(ctx, mode, src, dst, source.Options{
		Progress: meters.unpacked, Keep: source.Keep(cfg.KeepSource), Log: log,
		Fetch: source.FetchOptions{MD5: cfg.DownloadMD5, Roots: roots, Proxy: http.ProxyFromEnvironment, Progress: meters.fetched},
	}); err != nil {
		return err
	}
	if err := clearMarkersIn(dst); err != nil { // a root that must not be taken for a good one is not left mounted
		return errors.Join(err, source.OverlayOf(dst).Unmount())
	}
	return nil
}

func clearMarkersIn(dst string) error {
	root, err := rootfs.Open(dst)
	if err != nil {
		return err
	}
	defer root.Close()
	return clearMarkers(root)
}

// checkMD5 compares a file with the digest that DOWNLOAD_MD5SUM expects; "" expects nothing.
func checkMD5(src, want string) error {
	if want == "" {
		return nil
	}
	f, err := os.Open(src)
	if err != nil {
		return fmt.Errorf("prepare: check DOWNLOAD_MD5SUM: %w", err)
	}
	defer f.Close()
	h := md5.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("prepare: check DOWNLOAD_MD5SUM: %w", err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); !strings.EqualFold(got, want) {
		return fmt.Errorf("prepare: %s: its MD5 is %s, DOWNLOAD_MD5SUM expects %s", src, got, want)
	}
	return nil
}

// clearJob removes what an earlier job left in its parent folder.
func clearJob(parent string) error {
	place := marker.Directory(parent)
	var problems []error
	for _, name := range []marker.Name{marker.Ready, marker.Complete, marker.Failed, marker.Exiting} {
		problems = append(problems, marker.Remove(place, name))
	}
	state, err := agent.LoadState(parent)
	if err == nil {
		err = state.Clear()
	}
	return errors.Join(append(problems, err)...)
}
