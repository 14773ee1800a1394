// Package sshdconfig reads OpenSSH's sshd_config and sshd's command line.
//
// A configuration is a list of directives, each one line: a keyword and its
// arguments. Most keywords keep the first value that they are given, some
// collect the values of all their lines. A Match line opens a block that lasts
// until the next Match or the end of the file; the directives in it count only
// for connections that meet its criteria, and then they override the directives
// outside. An administrator's existing file must mean here what it means to
// sshd, so the grammar, the order of precedence and the wording of errors
// follow OpenSSH (servconf.c, match.c, misc.c) and sshd_config(5): tests compare
// it with sshd 9.2, and what came to OpenSSH until 10.0 is known as well.
//
// Package reading goes in two steps. [Load] splits the text into directives and
// tries each one, which finds every mistake before the server starts, inside
// of Match blocks too. [Config.Server] and [Config.For] then choose the directives
// that count and obey them over the defaults. What a keyword does is said in
// one place, the tables in keywords.go. [Config.Dump] shows the outcome as sshd -T.
//
// A directive that asks for something this server does not do is refused where
// ignoring it would change who gets in or how, and is otherwise accepted with a
// warning.
package sshdconfig

import (
	"fmt"
	"slices"
	"strings"
)

// Overlay is what the program itself adds to a configuration. It wins over the
// file, and the file stays as its owner wrote it.
type Overlay struct {
	SetEnv          []string // NAME=value; the file's own pairs stay, except for the same names
	ChrootDirectory string   // for all users; "" leaves it to the file
}

// Config is a configuration that has been read and checked.
// It is immutable and safe for concurrent use.
type Config struct {
	directives []*directive
	overlay    Overlay
	server     Server
	ports      []int // those of -p or Port, in order
	warnings   []string
}

// Load reads the file that the command line names, or text in its place if
// that is not nil. Directives from the command line come before those of the
// file and so win over them, though not over its Match blocks, as with sshd.
// An error in the configuration is an *Error, or several joined.
func Load(cl CommandLine, text []byte, overlay Overlay) (*Config, error) {
	if err := checkOverlay(overlay); err != nil {
		return nil, err
	}
	p := &parser{warnings: cl.warnings(), taken: map[place]bool{}}
	if err := p.commandLine(cl); err != nil {
		return nil, err
	}
	if err := p.main(cl.ConfigFile, text); err != nil {
		return nil, err
	}
	c := &Config{directives: p.directives, overlay: overlay, warnings: p.warnings}
	v := defaults()
	if err := c.apply(v, nil); err != nil {
		return nil, err
	}
	if err := v.checkCommands(); err != nil {
		return nil, err
	}
	if len(cl.Ports) > 0 {
		v.ports = cl.Ports
	}
	if len(v.ports) == 0 {
		v.ports = []int{22}
	}
	c.server, c.ports = v.Server, v.ports
	c.server.Listen = v.listenAddresses()
	c.server.HostKeys, c.server.HostCertificates = someFiles(v.HostKeys), someFiles(v.HostCertificates)
	return c, nil
}

func checkOverlay(o Overlay) error {
	for _, pair := range o.SetEnv {
		if strings.IndexByte(pair, '=') < 1 {
			return fmt.Errorf("session environment: %q: want NAME=value", pair)
		}
	}
	return nil
}

// Server returns what holds for the server as a whole.
// The lists in it are shared: do not change them.
func (c *Config) Server() Server { return c.server }

// Warnings returns a sentence, with file and line, for every accepted directive
// that has no effect or a lesser one than in sshd. Each is told once.
func (c *Config) Warnings() []string { return slices.Clone(c.warnings) }

// For returns the settings in force for a connection: defaults, then what the
// file says outside of Match blocks, then the blocks that the connection
// meets, then the overlay. Load has tried every directive already, so an error
// means that something outside the file has changed, such as the working
// directory having been removed; the connection must then be refused.
func (c *Config) For(conn Connection) (Settings, error) {
	v, err := c.decide(conn)
	if err != nil {
		return Settings{}, err
	}
	if v.DisableForwarding {
		v.AllowTCPForwarding, v.AllowStreamLocalForwarding, v.AllowAgentForwarding = "no", "no", false
	}
	return v.Settings, nil
}

// decide is For with everything that a directive set.
func (c *Config) decide(conn Connection) (*values, error) {
	v := defaults()
	if err := c.apply(v, &conn); err != nil {
		return nil, err
	}
	v.SetEnv = mergeEnv(c.overlay.SetEnv, v.SetEnv)
	if c.overlay.ChrootDirectory != "" {
		v.ChrootDirectory = c.overlay.ChrootDirectory
	}
	return v, nil
}

// mergeEnv joins two lists of NAME=value; the first list wins on the same name.
func mergeEnv(first, second []string) []string {
	merged := slices.Clone(first)
	for _, pair := range second {
		if !hasName(first, pair) {
			merged = append(merged, pair)
		}
	}
	return merged
}

// hasName tells whether a list of NAME=value sets the name that pair sets.
func hasName(list []string, pair string) bool {
	name, _, _ := strings.Cut(pair, "=")
	return slices.ContainsFunc(list, func(p string) bool { return strings.HasPrefix(p, name+"=") })
}

// apply obeys the directives that count for a connection, or for the server if
// conn is nil. A block's directives replace those outside of all blocks for
// the same keyword; a keyed keyword, Subsystem, is replaced name by name.
func (c *Config) apply(v *values, conn *Connection) error {
	var chosen []*directive
	replaced := map[*keyword]bool{}
	for _, d := range c.directives {
		if conn != nil && d.block != nil && d.block.matches(*conn) {
			chosen = append(chosen, d)
			replaced[d.keyword] = d.keyword.kind != keyed
		}
	}
	for _, d := range c.directives {
		if d.block.always() && !replaced[d.keyword] {
			chosen = append(chosen, d)
		}
	}
	return obey(v, chosen)
}

// obey sets values in order; of a keyword that keeps its first value, the first.
func obey(v *values, directives []*directive) error {
	seen := map[*keyword]bool{}
	for _, d := range directives {
		if seen[d.keyword] && d.keyword.kind.firstWins() {
			continue
		}
		seen[d.keyword] = true
		if err := d.keyword.set(v, d); err != nil {
			return d.errorf("%w", err)
		}
	}
	return nil
}
