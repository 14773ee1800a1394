package agent_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"buildenv/artifacts"
)

// telling is a Publisher.Changes that tells of one change and then fails, or not.
func telling(err error) func(context.Context, string, artifacts.PackOptions, func(artifacts.Change) error) error {
	return func(_ context.Context, _ string, _ artifacts.PackOptions, visit func(artifacts.Change) error) error {
		return errors.Join(visit(artifacts.Change{Kind: artifacts.Added, Path: "etc/new", Type: "file", Size: 3}), err)
	}
}

func TestReportOfChanges(t *testing.T) {
	const (
		without = "boot-images/ID/kernel boot-images/ID/kernel.metadata.json boot-images/ID/manifest.json " +
			"boot-images/ID/manifest.json.metadata.json boot-images/ID/rootfs boot-images/ID/rootfs.metadata.json " +
			"ims/images/ID.json ims/jobs/job-1.json"
		with = "boot-images/ID/changes.json boot-images/ID/changes.json.metadata.json " + without
	)
	for name, test := range map[string]struct {
		from string
		err  error
		want string
	}{
		"of a root with a source":    {"base.squashfs", nil, with},
		"of a root without a source": {"", nil, without},
		"that cannot be made":        {"base.squashfs", errFull, without},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPublication(t)
			p.Pack.From, p.Changes = test.from, telling(test.err)
			result, err := p.Publish(t.Context(), order())
			if err != nil {
				t.Fatal(err)
			}
			if got := p.files(t); got != test.want {
				t.Errorf("the store holds\n%s\nwant\n%s", got, test.want)
			}
			if len(result.Manifest.Artifacts) != 2 || (result.Changes != nil) != (test.want == with) {
				t.Errorf("result %+v", result)
			}
		})
	}
}

func TestReportOfChangesIsStoredWhole(t *testing.T) {
	p := newPublication(t)
	p.Pack.From, p.Changes = "base.squashfs", telling(nil)
	result, err := p.Publish(t.Context(), order())
	if err != nil {
		t.Fatal(err)
	}
	object, err := p.Store.Open(t.Context(), result.Image.ID+"/"+artifacts.ChangesName)
	if err != nil {
		t.Fatal(err)
	}
	defer object.Close()
	text, err := io.ReadAll(object)
	if err != nil || !strings.Contains(string(text), `"path":"etc/new"`) || !strings.HasSuffix(string(text), "}\n") {
		t.Errorf("%v: %s", err, text)
	}
	if result.Changes.Added != 1 || result.Changes.AddedBytes != 3 {
		t.Errorf("totals %+v", *result.Changes)
	}
}
