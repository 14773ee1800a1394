package sshdconfig

import (
	"fmt"
	"strconv"
	"strings"
)

// Usage describes the command line in sshd's form.
const Usage = `usage: sshd [-46DdeGiqTtV] [-C connection_spec] [-c host_certificate_file]
            [-E log_file] [-f config_file] [-g login_grace_time]
            [-h host_key_file] [-o option] [-p port] [-u len]
`

// CommandLine is sshd's command line (sshd(8)), read but not obeyed. Load obeys
// what concerns the configuration.
type CommandLine struct {
	ConfigFile       string   // -f, the last one; "none" for no file, "" for DefaultFile
	LogFile          string   // -E
	LogToStderr      bool     // -e, and -d
	Quiet            bool     // -q
	Debug            int      // how many -d, at most 3
	NoDetach         bool     // -D
	Inetd            bool     // -i
	Test             bool     // -t
	TestExtended     bool     // -T
	Dump             bool     // -G: as -T, but without a look at host keys
	Version          bool     // -V
	Ports            []int    // -p; they replace every Port of the file
	HostKeys         []string // -h
	HostCertificates []string // -c
	AddressFamily    string   // inet for -4, inet6 for -6
	LoginGraceTime   string   // -g, not yet parsed
	Options          []string // -o, in order
	// TestConnection is -C, the connection whose settings -T and -G show; its
	// Groups are for the caller to look up. It is nil if there is no -C.
	TestConnection *Connection
	Ignored        []string // options without effect, such as -u
}

// withValue and withoutValue are sshd's option letters.
const (
	withValue    = "CEbcfghkopu"
	withoutValue = "46DGQRTdeiqrtV"
)

// ParseCommandLine reads the arguments after the program's name. Letters may be
// joined (-De) and values attached (-p2222). An error is a *UsageError.
func ParseCommandLine(args []string) (CommandLine, error) {
	var cl CommandLine
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		cluster := args[0][1:]
		args = args[1:]
		if cluster == "-" {
			break
		}
		var err error
		if args, err = cl.cluster(cluster, args); err != nil {
			return CommandLine{}, err
		}
	}
	if len(args) > 0 {
		return CommandLine{}, usagef("Extra argument %s.", args[0])
	}
	if cl.TestConnection != nil && !cl.TestExtended && !cl.Dump {
		return CommandLine{}, usagef("Config test connection parameter (-C) provided without test mode (-T)")
	}
	return cl, nil
}

// cluster reads one word of letters, the last of which may take its value from
// the next word. It returns the words that are left.
func (cl *CommandLine) cluster(letters string, next []string) ([]string, error) {
	for i := range len(letters) {
		letter, attached := letters[i], letters[i+1:]
		switch {
		case strings.IndexByte(withoutValue, letter) >= 0:
			if err := cl.flag(letter); err != nil {
				return nil, err
			}
			continue
		case strings.IndexByte(withValue, letter) < 0:
			return nil, usagef("unknown option -- %c", letter)
		case attached != "":
			return next, cl.value(letter, attached)
		case len(next) == 0:
			return nil, usagef("option requires an argument -- %c", letter)
		}
		return next[1:], cl.value(letter, next[0])
	}
	return next, nil
}

func (cl *CommandLine) flag(letter byte) error {
	switch letter {
	case '4':
		cl.AddressFamily = "inet"
	case '6':
		cl.AddressFamily = "inet6"
	case 'D':
		cl.NoDetach = true
	case 'G':
		cl.Dump = true
	case 'T':
		cl.TestExtended = true
	case 't':
		cl.Test = true
	case 'd':
		cl.Debug = min(cl.Debug+1, 3)
		cl.LogToStderr = true
	case 'e':
		cl.LogToStderr = true
	case 'i':
		cl.Inetd = true
	case 'q':
		cl.Quiet = true
	case 'V':
		cl.Version = true
	case 'R':
		return usagef("-R is for sshd's own use and not supported")
	default:
		cl.Ignored = append(cl.Ignored, "-"+string(letter))
	}
	return nil
}

func (cl *CommandLine) value(letter byte, value string) (err error) {
	switch letter {
	case 'C':
		err = cl.addTestSpec(value)
	case 'E':
		cl.LogFile = value
	case 'c':
		cl.HostCertificates = append(cl.HostCertificates, value)
	case 'f':
		cl.ConfigFile = value
	case 'g':
		cl.LoginGraceTime = value
		if _, invalid := parseDuration(value); invalid != nil {
			err = usagef("Invalid login grace time.")
		}
	case 'h':
		cl.HostKeys = append(cl.HostKeys, value)
	case 'o':
		cl.Options = append(cl.Options, value)
	case 'p':
		port, invalid := parsePort(value)
		if invalid != nil {
			err = usagef("Bad port number.")
		}
		cl.Ports = append(cl.Ports, port)
	default:
		cl.Ignored = append(cl.Ignored, "-"+string(letter))
	}
	return err
}

// addTestSpec reads "user=root,addr=192.0.2.1,…"; -C may be repeated.
func (cl *CommandLine) addTestSpec(spec string) (err error) {
	if cl.TestConnection == nil {
		cl.TestConnection = &Connection{}
	}
	c := cl.TestConnection
	for item := range strings.SplitSeq(spec, ",") {
		key, value, hasValue := strings.Cut(item, "=")
		if hasValue == (key == "invalid-user") {
			return usagef("Invalid test mode specification %s", item)
		}
		switch key {
		case "user":
			c.User = value
		case "host":
			c.Host = value
		case "addr":
			c.Address = value
		case "laddr":
			c.LocalAddress = value
		case "rdomain":
			c.RDomain = value
		case "lport":
			if c.LocalPort, err = parsePort(value); err != nil {
				return usagef("Invalid port '%s' in test mode specification %s", value, item)
			}
		case "invalid-user":
			c.InvalidUser = true
		default:
			return usagef("Invalid test mode specification %s", item)
		}
	}
	return nil
}

// directives gives what the options say as lines of a configuration.
func (cl CommandLine) directives() []string {
	var lines []string
	add := func(keyword, value string) {
		lines = append(lines, keyword+" "+joinArguments([]string{value}))
	}
	switch {
	case cl.Debug > 0:
		add("LogLevel", "DEBUG"+strconv.Itoa(cl.Debug))
	case cl.Quiet:
		add("LogLevel", "QUIET")
	}
	if cl.AddressFamily != "" {
		add("AddressFamily", cl.AddressFamily)
	}
	if cl.LoginGraceTime != "" {
		add("LoginGraceTime", cl.LoginGraceTime)
	}
	for _, file := range cl.HostKeys {
		add("HostKey", file)
	}
	for _, file := range cl.HostCertificates {
		add("HostCertificate", file)
	}
	return append(lines, cl.Options...)
}

func (cl CommandLine) warnings() []string {
	var list []string
	for _, option := range cl.Ignored {
		list = append(list, fmt.Sprintf("%s: option %s is ignored", onCommandLine, option))
	}
	return list
}
