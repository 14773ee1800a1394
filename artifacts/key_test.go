package artifacts

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckKey(t *testing.T) {
	good := []string{"rootfs", "4bf91021-8d99-4adf-945f-46de2ff50a3d/rootfs", "größe/€ 1", "..a/b..", strings.Repeat("a", MaxKey)}
	for _, key := range good {
		if err := CheckKey(key); err != nil {
			t.Errorf("CheckKey(%q) = %v, want none", key, err)
		}
	}
	bad := []string{"", ".", "..", "/", "/rootfs", "a/", "a//b", "./a", "a/.", "../a", "a/../b", "a/../../b", "a\x00b", "\xff", strings.Repeat("a", MaxKey+1)}
	for _, key := range bad {
		if err := CheckKey(key); !errors.Is(err, ErrBadKey) {
			t.Errorf("CheckKey(%q) = %v, want ErrBadKey", key, err)
		}
	}
}
