package sftp

import (
	"fmt"
	"io"
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
	// LogLevel is what goes to Log (-l): by default nothing that clients do.
	LogLevel LogLevel
	// LogToStderr sends the log to Stderr instead (-e).
	LogToStderr bool
	// ListRequests answers with the names of the requests and serves nobody (-Q).
	ListRequests bool

	// Home is the user's home directory inside the jail; relative paths begin
	// there. If it does not exist, they begin at the root.
	Home string
	// User is the user's name, for %u and the log; Client is the address that
	// the user comes from, for the log.
	User, Client string
	// Log receives lines in OpenSSH's words, as LogLevel says. It may be nil.
	Log *slog.Logger
	// Stderr is where LogToStderr sends them.
	Stderr io.Writer
	// Audit receives one record for each request that opens, closes, removes or
	// changes something, "sftp.open" and so on, whatever LogLevel says. It may
	// be nil.
	Audit *slog.Logger
	// Activity, if not nil, tells how busy the session is.
	Activity *Activity

	complaints []string // about options that sftp-server(8) complains about and goes on
}

// ParseOptions reads the words that follow internal-sftp in sshd_config(5), in
// the manner of getopt(3): clusters (-eR) and attached values (-u022) are
// understood. The log facility (-f) changes nothing, since Options.Log is where
// lines go; after -c the rest is ignored. What sftp-server(8) would ignore, an
// extra word or an unknown name of a request, is an error here, for in a list
// of denied requests a misspelt name would silently allow.
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
			if letter == 'c' {
				return o, nil
			}
			value := ""
			if strings.IndexByte("dflpPQu", letter) >= 0 {
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
	case 'l':
		o.LogLevel, err = parseLogLevel(value)
		o.complain(err)
		return nil
	case 'f':
		o.complain(checkFacility(value))
	case 'e':
		o.LogToStderr = true
	case 'Q':
		if o.ListRequests = strings.EqualFold(value, "requests"); !o.ListRequests {
			err = fmt.Errorf("unknown query %q: want requests", value)
		}
	default:
		err = fmt.Errorf("not supported: use some of -d -e -f -l -p -P -Q -R -u")
	}
	return err
}

// complain keeps for the log what shall not keep users from their files.
func (o *Options) complain(err error) {
	if err != nil {
		o.complaints = append(o.complaints, "internal-sftp: "+err.Error())
	}
}

// checkFacility knows the words of option -f.
func checkFacility(word string) error {
	known := []string{"DAEMON", "USER", "AUTH", "AUTHPRIV",
		"LOCAL0", "LOCAL1", "LOCAL2", "LOCAL3", "LOCAL4", "LOCAL5", "LOCAL6", "LOCAL7"}
	if !slices.Contains(known, strings.ToUpper(word)) {
		return fmt.Errorf("log facility %q: want one of %s", word, strings.Join(known, ", "))
	}
	return nil
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

// refusal is why the options do not let the client make a request, in
// OpenSSH's words; "" if they do.
func (o *Options) refusal(r request) string {
	switch {
	case o.ReadOnly && r.writes:
		return "Refusing " + r.name + " request in read-only mode"
	case slices.Contains(o.Denied, r.name):
		return "Refusing denylisted " + r.name + " request"
	case len(o.Allowed) > 0 && !slices.Contains(o.Allowed, r.name):
		return "Refusing non-allowlisted " + r.name + " request"
	}
	return ""
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
