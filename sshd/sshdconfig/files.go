package sshdconfig

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// absolute makes a file name absolute; "none" stays as it is.
func absolute(name string) (string, error) {
	if strings.EqualFold(name, "none") {
		return "none", nil
	}
	name, err := expandHome(name)
	if err != nil {
		return "", err
	}
	if filepath.IsAbs(name) {
		return name, nil
	}
	here, err := os.Getwd()
	return here + "/" + name, err
}

// expandHome replaces ~ and ~user at the beginning of a file name. As with
// sshd, ~ alone is the user that the server runs as, not the one who logs in.
func expandHome(name string) (string, error) {
	tilde, ok := strings.CutPrefix(name, "~")
	if !ok {
		return name, nil
	}
	who, rest, _ := strings.Cut(tilde, "/")
	owner, err := user.Lookup(who)
	if who == "" {
		owner, err = user.LookupId(strconv.Itoa(os.Getuid()))
	}
	if err != nil {
		return "", fmt.Errorf("%s: no home directory: %w", name, err)
	}
	return owner.HomeDir + "/" + rest, nil
}

// someFiles are the files of a list, each once.
func someFiles(list []string) []string {
	return slices.DeleteFunc(unique(list), func(name string) bool { return noneOr(name) == "" })
}

// noneOr is "" for "none", which clears a text.
func noneOr(text string) string {
	if strings.EqualFold(text, "none") {
		return ""
	}
	return text
}
