package artifacts

import (
	"encoding/json"
	"fmt"
	"time"
)

// ManifestName is the object name of an image's manifest, beside its artifacts.
const ManifestName = "manifest.json"

// Link leads to an object in a store.
type Link struct {
	ETag string `json:"etag"`
	Path string `json:"path"`
	Type string `json:"type"`
}

// Manifest lists an image's artifacts. Its fields stand in the alphabetical
// order in which they are encoded: readers compare the file byte for byte.
type Manifest struct {
	Artifacts []ManifestEntry `json:"artifacts"`
	Created   string          `json:"created"`
	Version   string          `json:"version"`
}

// ManifestEntry is one artifact in a manifest.
type ManifestEntry struct {
	Link Link   `json:"link"`
	MD5  string `json:"md5"`
	Type Kind   `json:"type"`
}

// NewManifest is an empty manifest of version 1.0, created at the given time.
func NewManifest(created time.Time) Manifest {
	return Manifest{Version: "1.0", Created: created.Format("2006-01-02 15:04:05.000000"), Artifacts: []ManifestEntry{}}
}

// Add appends an artifact that a store holds under link.
func (m *Manifest) Add(a Artifact, link Link) {
	m.Artifacts = append(m.Artifacts, ManifestEntry{Link: link, MD5: a.MD5, Type: a.Kind})
}

// Encode is the manifest as it is stored: keys sorted, indented by four
// blanks, no final newline.
func (m Manifest) Encode() ([]byte, error) {
	text, err := json.MarshalIndent(m, "", "    ")
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	return text, nil
}
