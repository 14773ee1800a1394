package entrypoint

import (
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"buildenv/agent"
	"buildenv/artifacts"
	"buildenv/artifacts/store/dir"
)

// store is where images go, and who keeps their records.
type store struct {
	objects  artifacts.Store
	registry artifacts.Registry
	root     string // the folder, where there is room for an archive as well
}

// checkStore tells whether an address is one of a store.
func checkStore(address string) error {
	_, err := dir.Path(address)
	return err
}

// openStore opens a store and makes it when it is not there.
func openStore(address, bucket string, log *slog.Logger) (store, error) {
	path, err := dir.Path(address)
	if err != nil {
		return store{}, err
	}
	d, err := dir.New(path, bucket, log)
	if err != nil {
		return store{}, err
	}
	return store{objects: d, registry: d, root: path}, nil
}

// printResult tells where a published image is: its id, the manifest's address,
// and the folder.
func printResult(out io.Writer, cfg Config, result agent.Result) error {
	root, err := dir.Path(cfg.ArtifactStore)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "image %s\nmanifest %s\nfolder %s\n", result.Image.ID, result.Image.Link.Path,
		filepath.Join(root, cfg.S3Bucket, result.Image.ID))
	return err
}
