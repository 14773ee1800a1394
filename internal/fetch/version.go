package fetch

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// unknown is the size of a file whose server does not tell.
const unknown = -1

// version tells a file from what its server may have under the same name later
// (RFC 9110 section 8.8).
type version struct {
	Size     int64  `json:"size"` // in bytes, or unknown
	ETag     string `json:"etag,omitempty"`
	Modified string `json:"modified,omitempty"`
	// Strong says that Modified cannot be that of two versions: it was not made
	// within the second of the answer.
	Strong bool `json:"strong,omitempty"`
}

func newVersion(h http.Header, size int64) version {
	v := version{Size: size, ETag: h.Get("ETag"), Modified: h.Get("Last-Modified")}
	modified, err := http.ParseTime(v.Modified)
	now, err2 := http.ParseTime(h.Get("Date"))
	v.Strong = err == nil && err2 == nil && now.Sub(modified) >= time.Second
	return v
}

// condition is what If-Range says, so that the server gives a part only of this
// version; "" if nothing could tell. Weak tags cannot (RFC 9110 section 13.1.5).
func (v version) condition() string {
	switch {
	case v.Size < 0:
		return ""
	case v.ETag != "" && !weak(v.ETag):
		return v.ETag
	case v.ETag == "" && v.Strong:
		return v.Modified
	}
	return ""
}

func weak(tag string) bool { return strings.HasPrefix(tag, "W/") }

// errChanged is returned when the server has another file now.
var errChanged = errors.New("the file has changed on the server while it was fetched")

// same is an error if an answer is about another version.
func (v version) same(h http.Header, size int64) error {
	if size != unknown && v.Size != unknown && size != v.Size {
		return final{fmt.Errorf("%w: it has %d bytes, before it had %d", errChanged, size, v.Size)}
	}
	tag, modified := h.Get("ETag"), h.Get("Last-Modified")
	switch {
	case tag != "" && v.ETag != "":
		if strings.TrimPrefix(tag, "W/") != strings.TrimPrefix(v.ETag, "W/") {
			return final{fmt.Errorf("%w: its ETag is another", errChanged)}
		}
	case modified != "" && v.Modified != "" && modified != v.Modified:
		return final{fmt.Errorf("%w: it was modified at %q, before at %q", errChanged, cut(modified), cut(v.Modified))}
	}
	return nil
}
