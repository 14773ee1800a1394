package sshdconfig

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// DefaultFile is read when the command line names no file.
const DefaultFile = "/etc/ssh/sshd_config"

// Bounds on what is read. A configuration has a few kilobytes; sshd has the
// same bound on the depth.
const (
	maxFile  = 1 << 20 // bytes
	maxFiles = 256
	maxDepth = 16
)

const onCommandLine = "command-line"

// directive is one line, split but not yet obeyed.
type directive struct {
	file    string
	line    int // 0 on the command line
	spelt   string
	keyword *keyword
	rest    string   // all that follows the keyword
	args    []string // the same, split into words
	block   *block   // nil outside of all Match blocks
}

func (d *directive) errorf(format string, args ...any) error {
	return &Error{File: d.file, Line: d.line, Err: fmt.Errorf(format, args...)}
}

// parser collects the directives of all files and warns about them.
type parser struct {
	directives []*directive
	warnings   []string
	taken      map[place]bool // where which keyword has been set
	files      int            // included so far
}

type place struct {
	keyword *keyword
	block   *block
}

// commandLine adds what the options say, before any file.
func (p *parser) commandLine(cl CommandLine) error {
	for _, option := range cl.directives() {
		d := &directive{file: onCommandLine}
		d.spelt, d.rest = splitKeyword(option)
		if d.spelt == "" {
			continue
		}
		if _, err := p.line(d, nil, 0); err != nil {
			return err
		}
	}
	return nil
}

// main reads the file that everything else is included from.
func (p *parser) main(name string, text []byte) error {
	if text != nil {
		return p.text(cmp.Or(name, "built-in configuration"), text, nil, 0)
	}
	if strings.EqualFold(name, "none") {
		return nil
	}
	name = cmp.Or(name, DefaultFile)
	text, err := readFile(name)
	if err != nil {
		return err
	}
	return p.text(name, text, nil, 0)
}

// text adds the directives of one file, which stand in the block outer. Lines
// that sshd cannot make out are all reported, a bad value ends the reading.
func (p *parser) text(name string, text []byte, outer *block, depth int) error {
	if bytes.IndexByte(text, 0) >= 0 {
		return &Error{File: name, Err: errors.New("not a text file: it holds a NUL byte")}
	}
	var bad []error
	current, number := outer, 0
	for line := range strings.Lines(string(text)) {
		number++
		d := &directive{file: name, line: number, block: current}
		if d.spelt, d.rest = splitKeyword(line); d.spelt == "" {
			continue
		}
		next, err := p.line(d, outer, depth)
		if isCounted(err) {
			bad = append(bad, err)
			continue
		}
		if err != nil {
			return errors.Join(append(bad, err)...)
		}
		current = next
	}
	if len(bad) > 0 {
		bad = append(bad, &Error{File: name, Err: fmt.Errorf("terminating, %d bad configuration options", len(bad))})
	}
	return errors.Join(bad...)
}

// line adds one directive. It returns the block that the next line stands in.
func (p *parser) line(d *directive, outer *block, depth int) (*block, error) {
	d.keyword = lookUp(d.spelt)
	if d.keyword == nil {
		return nil, d.errorf("%w: %s", errBadOption, d.spelt)
	}
	if d.rest == "" {
		return nil, d.errorf("%w", counts("no argument after keyword %q", d.spelt))
	}
	var err error
	if d.args, err = splitArguments(d.rest); err != nil {
		return nil, d.errorf("%w", err)
	}
	if d.keyword.kind != structure {
		return d.block, p.add(d)
	}
	if d.file == onCommandLine {
		return nil, d.errorf("%s directive not supported as a command-line option", d.keyword.name())
	}
	if d.keyword.name() == "Include" {
		return d.block, p.include(d, depth)
	}
	next, err := parseMatch(d.args, outer)
	if err != nil {
		return nil, d.errorf("%w", says("Bad Match condition: %v", err))
	}
	return next, nil
}

// add tries a directive on scratch values and keeps it.
func (p *parser) add(d *directive) error {
	if !d.block.always() && d.keyword.scope == global {
		return d.errorf("Directive '%s' is not allowed within a Match block", d.spelt)
	}
	scratch := defaults()
	if err := d.keyword.set(scratch, d); err != nil {
		return d.errorf("%w", err)
	}
	for _, note := range scratch.notes {
		p.warn(d, note)
	}
	place := place{d.keyword, d.block}
	if d.keyword.kind == wholeLine && p.taken[place] {
		p.warn(d, "ignored: the first line counts, put all values on that one")
	}
	p.taken[place] = true
	p.directives = append(p.directives, d)
	return nil
}

// warn adds a warning unless the keyword has had the same one before.
func (p *parser) warn(d *directive, note string) {
	suffix := fmt.Sprintf(": %s: %s", d.keyword.name(), note)
	if !slices.ContainsFunc(p.warnings, func(w string) bool { return strings.HasSuffix(w, suffix) }) {
		p.warnings = append(p.warnings, d.errorf("%s: %s", d.keyword.name(), note).Error())
	}
}

// include reads the files that match each pattern, in the order of their names.
// They inherit the block that the Include stands in; a Match in one of them
// ends with the file.
func (p *parser) include(d *directive, depth int) error {
	if depth == maxDepth {
		return d.errorf("Too many recursive configuration includes")
	}
	if len(d.args) == 0 {
		return d.errorf("Include missing filename argument")
	}
	for _, name := range d.args {
		if !filepath.IsAbs(name) {
			name = filepath.Join(filepath.Dir(DefaultFile), name)
		}
		files, err := filepath.Glob(name)
		if err != nil {
			return d.errorf("include %q: %w", name, err)
		}
		for _, file := range files {
			if err := p.includeFile(d, file, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *parser) includeFile(d *directive, name string, depth int) error {
	if p.files++; p.files > maxFiles {
		return d.errorf("more than %d included files", maxFiles)
	}
	if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() {
		return d.errorf("include %q: not a regular file", name)
	}
	text, err := readFile(name)
	if err != nil {
		return d.errorf("include: %w", err)
	}
	return p.text(name, text, d.block, depth)
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if len(text) > maxFile {
		return nil, &Error{File: name, Err: fmt.Errorf("larger than %d bytes", maxFile)}
	}
	return text, nil
}
