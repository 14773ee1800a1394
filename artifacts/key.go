package artifacts

import (
	"fmt"
	"io/fs"
	"strings"
)

// MaxKey is the length of the longest object key, in bytes of UTF-8, as S3
// defines it.
const MaxKey = 1024

// CheckKey tells whether every store can hold an object under key: a
// slash-separated path inside its bucket, in UTF-8, without empty, "." or ".."
// elements and without NUL. The error is an ErrBadKey.
func CheckKey(key string) error {
	if len(key) > MaxKey {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrBadKey, len(key), MaxKey)
	}
	if key == "." || !fs.ValidPath(key) || strings.ContainsRune(key, 0) {
		return fmt.Errorf("%w: %q", ErrBadKey, key)
	}
	return nil
}
