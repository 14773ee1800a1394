package dir

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"buildenv/artifacts"
)

func openRegistry(t *testing.T, dir string) (*Folder, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	r, err := New(dir, "boot-images", slog.New(slog.NewTextHandler(&log, nil)))
	must(t, err)
	t.Cleanup(func() { r.Close() })
	return r, &log
}

func wantFile(t *testing.T, name, want string) {
	t.Helper()
	got, err := os.ReadFile(name)
	if err != nil || string(got) != want {
		t.Errorf("%s: %s, error %v, want %s", name, got, err, want)
	}
}

func TestAJobThatSucceeds(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	r, log := openRegistry(t, dir)
	for _, status := range []artifacts.Status{artifacts.StatusWaiting, artifacts.StatusPackaging} {
		must(t, r.SetJobStatus(ctx, "job-1", status))
	}
	image, err := r.CreateImage(ctx, "größe/../\n", "aarch64")
	must(t, err)
	again, err := r.CreateImage(ctx, "größe/../\n", "aarch64")
	if err != nil || again != image {
		t.Errorf("second CreateImage gives %+v, %v, want %+v", again, err, image)
	}
	other, err := r.CreateImage(ctx, "größe/../\n", "x86_64")
	if err != nil || other.ID == image.ID {
		t.Errorf("another architecture gives %+v, %v", other, err)
	}
	wantTree(t, dir)

	must(t, r.LinkImage(ctx, image.ID, artifacts.Link{ETag: "e", Path: "s3://b/k", Type: "s3"}))
	must(t, r.SetJobResult(ctx, "job-1", image.ID))
	must(t, r.SetJobStatus(ctx, "job-1", artifacts.StatusSuccess))
	record := filepath.Join("ims/images", image.ID+".json")
	wantTree(t, dir, "ims", "ims/images", record, "ims/jobs", "ims/jobs/job-1.json")
	wantFile(t, filepath.Join(dir, record), `{
    "id": "`+image.ID+`",
    "name": "größe/../\n",
    "arch": "aarch64",
    "link": {
        "etag": "e",
        "path": "s3://b/k",
        "type": "s3"
    }
}
`)
	wantFile(t, filepath.Join(dir, "ims/jobs/job-1.json"), `{
    "id": "job-1",
    "resultant_image_id": "`+image.ID+`",
    "status": "success"
}
`)
	if got := strings.Count(log.String(), "job=job-1"); got != 3 {
		t.Errorf("%d statuses logged, want 3: %s", got, log)
	}

	fresh, err := r.CreateImage(ctx, "größe/../\n", "aarch64")
	if err != nil || fresh.ID == image.ID {
		t.Errorf("a linked image is used again: %+v, %v", fresh, err)
	}
	later, _ := openRegistry(t, dir)
	must(t, later.LinkImage(ctx, image.ID, artifacts.Link{Path: "s3://b/new"}))
	must(t, later.DeleteImage(ctx, image.ID))
	must(t, later.DeleteImage(ctx, image.ID))
	wantTree(t, dir, "ims", "ims/images", "ims/jobs", "ims/jobs/job-1.json")
}

func TestAJobThatFailsLeavesNothing(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	r, _ := openRegistry(t, dir)
	image, err := r.CreateImage(ctx, "name", "x86_64")
	must(t, err)
	must(t, r.SetJobStatus(ctx, "job", artifacts.StatusError))
	must(t, r.DeleteImage(ctx, image.ID))
	must(t, r.SetJobStatus(ctx, "", artifacts.StatusSuccess))
	must(t, r.SetJobResult(ctx, "", image.ID))
	if err := r.LinkImage(ctx, image.ID, artifacts.Link{}); !errors.Is(err, artifacts.ErrNotFound) {
		t.Errorf("error %v, want ErrNotFound", err)
	}
	wantTree(t, dir)
}

func TestBadIDs(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	r, _ := openRegistry(t, dir)
	for _, id := range []string{"..", "../../x", "a/b", "/x", "nul\x00", strings.Repeat("x", 300)} {
		for verb, err := range map[string]error{
			"LinkImage":    r.LinkImage(ctx, id, artifacts.Link{}),
			"DeleteImage":  r.DeleteImage(ctx, id),
			"SetJobStatus": r.SetJobStatus(ctx, id, artifacts.StatusSuccess),
			"SetJobResult": r.SetJobResult(ctx, id, "image"),
		} {
			if !errors.Is(err, artifacts.ErrBadKey) {
				t.Errorf("%s(%q): error %v, want ErrBadKey", verb, id, err)
			}
		}
	}
	wantTree(t, dir)
}
