package sftp

import (
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
)

// Options are those of sftp-server(8), and what a server knows about its user.
// The zero value allows everything.
type Options struct {
	// ReadOnly refuses every request that could change a file (-R).
	ReadOnly bool
	// Umask replaces the jail's umask for this session (-u); nil keeps it.
	Umask *int
	// StartDirectory is where relative paths begin (-d). It may hold %d, the
	// home directory, %u, the user's name, and %%. Empty means Home.
	StartDirectory string
	// Allowed, if not empty, names the only requests that are answered (-p);
	// those in Denied are refused in any case (-P). RequestNames lists the names.
	Allowed, Denied []string

	// Home is the user's home directory inside the jail; relative paths begin
	// there. If it does not exist, they begin at the root.
	Home string
	// User is the user's name, for %u.
	User string
	// Log receives a record for each request that names a file: those that
	// open or change something at level info, the others at debug. It may be nil.
	Log *slog.Logger
}

// ParseOptions reads the words that follow internal-sftp in sshd_config(5), in
// the manner of getopt(3): clusters (-eR) and attached values (-u022) are
// understood. Log options (-e, -f, -l) are accepted and change nothing, since
// Options.Log decides. What sftp-server(8) would ignore, an extra word or an
// unknown name of a request, is an error here, for in a list of denied
// requests a misspelt name would silently allow.
func ParseOptions(args []string) (Options, error) {
	var o Options
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		if len(word) < 2 || word[0] != '-' {
			return Options{}, fmt.Errorf("internal-sftp: unexpected argument %q", word)
		}
		for cluster := word[1:]; cluster != ""; {
			letter := cluster[0]
			cluster = cluster[1:]
			value := ""
			if strings.IndexByte("dflpPu", letter) >= 0 {
				if cluster == "" && len(args) == 0 {
					return Options{}, fmt.Errorf("internal-sftp: option -%c needs a value", letter)
				}
				if value = cluster; value == "" {
					value, args = args[0], args[1:]
				}
				cluster = ""
			}
			if err := o.set(letter, value); err != nil {
				return Options{}, fmt.Errorf("internal-sftp: option -%c: %w", letter, err)
			}
		}
	}
	return o, nil
}

func (o *Options) set(letter byte, value string) (err error) {
	switch letter {
	case 'R':
		o.ReadOnly = true
	case 'u':
		o.Umask, err = parseUmask(value)
	case 'd':
		o.StartDirectory = value
	case 'p':
		o.Allowed, err = parseRequests(value)
	case 'P':
		o.Denied, err = parseRequests(value)
	case 'e', 'f', 'l':
	default:
		err = fmt.Errorf("not supported: use some of -d -e -f -l -p -P -R -u")
	}
	return err
}

func parseUmask(s string) (*int, error) {
	mask, err := strconv.ParseUint(s, 8, 9)
	if err != nil {
		return nil, fmt.Errorf("umask %q: want an octal number from 000 to 777", s)
	}
	m := int(mask)
	return &m, nil
}

func parseRequests(list string) ([]string, error) {
	names, known := strings.Split(list, ","), RequestNames()
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("unknown request %q: known are %s", name, strings.Join(known, ", "))
		}
	}
	return names, nil
}

// permits says whether the options let the client make a request.
func (o *Options) permits(r request) bool {
	if o.ReadOnly && r.writes || slices.Contains(o.Denied, r.name) {
		return false
	}
	return len(o.Allowed) == 0 || slices.Contains(o.Allowed, r.name)
}

// startDirectories are where relative paths may begin, best first.
func (o *Options) startDirectories() []string {
	home := "/" + strings.TrimPrefix(o.Home, "/")
	if o.StartDirectory == "" {
		return []string{home}
	}
	start := strings.NewReplacer("%%", "%", "%d", home, "%u", o.User).Replace(o.StartDirectory)
	if !strings.HasPrefix(start, "/") {
		start = home + "/" + start
	}
	return []string{start, home}
}
