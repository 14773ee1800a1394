package sshdconfig

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
)

// setRevokedKeys takes files of public keys. A file that is not there is no
// mistake: every key is refused until it is.
func setRevokedKeys(v *values, d *directive) error {
	args, err := d.some()
	if err != nil {
		return err
	}
	v.RevokedKeys = nil
	for _, arg := range args {
		path, err := absolute(arg)
		if err != nil {
			return err
		}
		if noneOr(path) == "" {
			continue
		}
		if isKRL(path) {
			return fmt.Errorf("%s %s is not supported: it is a binary revocation list: give a file of public keys, one a line", d.spelt, arg)
		}
		v.RevokedKeys = append(v.RevokedKeys, path)
	}
	return nil
}

// isKRL tells whether a file is a key revocation list (PROTOCOL.krl). One that
// cannot be read is left to those who need its keys.
func isKRL(path string) bool {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	magic := []byte("SSHKRL\n\x00")
	head := make([]byte, len(magic))
	_, err = io.ReadFull(f, head)
	return err == nil && bytes.Equal(head, magic)
}

// setPubkeyAuthOptions takes words of which those count that appear.
func setPubkeyAuthOptions(v *values, d *directive) error {
	args, err := d.some()
	if err != nil {
		return err
	}
	v.TouchRequired = false
	for _, arg := range args {
		switch strings.ToLower(arg) {
		case "none":
		case "touch-required":
			v.TouchRequired = true
		case "verify-required":
			return fmt.Errorf("%s %s is not supported: this server cannot tell whether a security key verified its user", d.spelt, arg)
		default:
			return counts("unsupported %s option %s", d.spelt, arg)
		}
	}
	return nil
}

// ignoredPlaces accepts patterns of places in sshd's own sources.
func ignoredPlaces(v *values, d *directive) error {
	args, err := d.some()
	if err != nil {
		return err
	}
	v.written[d.keyword.key()] = strings.Join(args, " ")
	for _, arg := range args {
		if noneOr(arg) == "" && len(args) > 1 {
			return d.notAlone(arg)
		}
	}
	if noneOr(args[0]) != "" {
		v.note("ignored: %s", d.keyword.note)
	}
	return nil
}

// checkCommands demands a user for each command that finds keys: nothing may
// run as root by oversight.
func (v *values) checkCommands() error {
	if v.AuthorizedKeysCommand != "" && v.AuthorizedKeysCommandUser == "" {
		return says("AuthorizedKeysCommand set without AuthorizedKeysCommandUser")
	}
	if v.AuthorizedPrincipalsCommand != "" && v.AuthorizedPrincipalsCommandUser == "" {
		return says("AuthorizedPrincipalsCommand set without AuthorizedPrincipalsCommandUser")
	}
	return nil
}
