package sshd

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"buildenv/internal/fsx"
	"buildenv/sshd/authkeys"
	"buildenv/sshd/session"
	"buildenv/sshd/sshdconfig"
)

// findKey looks for a key where sshd does, in its order (user_key_allowed in
// OpenSSH's auth2-pubkey.c): in the user's files, among what trusted authorities
// have signed, and in what AuthorizedKeysCommand prints. When it is nowhere, the
// error says what was wrong in each place.
func (c *connection) findKey(g grant, key ssh.PublicKey) (authkeys.Entry, error) {
	entry, err := c.findInFiles(g, key)
	if err == nil {
		return entry, nil
	}
	problems := []error{err}
	if cert, ok := key.(*ssh.Certificate); ok && g.settings.TrustedUserCAKeys != "" {
		options, err := c.certified(g, cert)
		if err == nil {
			return authkeys.Entry{Key: key, Options: options}, nil
		}
		problems = append(problems, err)
	}
	if g.settings.AuthorizedKeysCommand != "" {
		entry, err := c.findByCommand(g, key)
		if err == nil {
			return entry, nil
		}
		problems = append(problems, err)
	}
	return authkeys.Entry{}, errors.Join(problems...)
}

func (c *connection) findInFiles(g grant, key ssh.PublicKey) (authkeys.Entry, error) {
	var problems []error
	for _, path := range g.keyFiles() {
		entries, err := c.readKeys(path, g)
		if err == nil {
			var entry authkeys.Entry
			if entry, err = authkeys.Authorize(entries, key, c.client(g)); err == nil {
				c.server.log.Log(c.server.stopping, session.LevelVerbose, fmt.Sprintf("Accepted key %s found at %s:%d", c.label(key), path, entry.Line))
				return entry, nil
			}
			err = fmt.Errorf("%s: %w", path, err)
		}
		problems = append(problems, err)
	}
	if len(problems) == 0 {
		return authkeys.Entry{}, authkeys.ErrNoKey
	}
	return authkeys.Entry{}, errors.Join(problems...)
}

// client is who the options of keys are asked about.
func (c *connection) client(g grant) authkeys.Client {
	return authkeys.Client{User: g.user.Name, Remote: c.remote.Addr(), Host: c.host(), Now: time.Now()}
}

// certified is what a certificate of an authority of the server's is good for.
func (c *connection) certified(g grant, cert *ssh.Certificate) (authkeys.Options, error) {
	authorities, err := readList(g.settings.TrustedUserCAKeys, authkeys.ParseAuthorities)
	if !authorities.Has(cert.SignatureKey) {
		return authkeys.Options{}, errors.Join(fmt.Errorf("CA %s %s is not listed in %s",
			kindOf(cert.SignatureKey), c.fingerprint(cert.SignatureKey), g.settings.TrustedUserCAKeys), err)
	}
	principals, problem := c.principals(g, cert)
	options, err := authkeys.Certify(cert, principals, c.client(g))
	if err != nil {
		return authkeys.Options{}, errors.Join(err, problem)
	}
	return options, nil
}

// principals are the names that a certificate may have instead of the user's,
// from a file, a program or both; nil if neither is asked for. An error says
// what is missing in the list.
func (c *connection) principals(g grant, cert *ssh.Certificate) (list []authkeys.Principal, err error) {
	file, program := g.settings.AuthorizedPrincipalsFile, g.settings.AuthorizedPrincipalsCommand
	if file == "" && program == "" {
		return nil, nil
	}
	list = []authkeys.Principal{}
	if file != "" {
		found, problem := c.principalsInFile(g.path(file), g)
		list, err = append(list, found...), problem
	}
	if program != "" {
		found, problem := c.principalsByCommand(g, cert)
		list, err = append(list, found...), errors.Join(err, problem)
	}
	return list, err
}

func (c *connection) principalsInFile(path string, g grant) ([]authkeys.Principal, error) {
	var list []authkeys.Principal
	var problems []error
	err := c.readOwn(path, g, func(f io.Reader) { list, problems = authkeys.ParsePrincipals(f) })
	c.complain("authorized principal not used", path, problems)
	return list, err
}

// keyFiles are the user's files of keys.
func (g grant) keyFiles() []string {
	var paths []string
	for _, name := range g.settings.AuthorizedKeysFiles {
		if !strings.EqualFold(name, "none") {
			paths = append(paths, g.path(name))
		}
	}
	return paths
}

// path expands the name of a file of the user's; the home directory is where it
// is looked for.
func (g grant) path(name string) string {
	path := g.user.expand(name)
	if !filepath.IsAbs(path) {
		path = filepath.Join(g.user.Home, path)
	}
	return path
}

// readKeys reads a file of keys. Lines that cannot be used are logged, once for a
// client's many keys, and the others count.
func (c *connection) readKeys(path string, g grant) (entries []authkeys.Entry, err error) {
	var problems []error
	err = c.readOwn(path, g, func(f io.Reader) { entries, problems = authkeys.Parse(f) })
	c.complain("authorized key not used", path, problems)
	return entries, err
}

// complain logs what is wrong with a file, once for a connection.
func (c *connection) complain(what, path string, problems []error) {
	if len(problems) == 0 || c.complained[path] {
		return
	}
	c.complained[path] = true
	for _, p := range problems {
		c.server.log.Warn(what, "file", path, "error", p)
	}
}

// readOwn reads a file of the user's, if nobody but him and root could have
// written it.
func (c *connection) readOwn(path string, g grant, parse func(io.Reader)) error {
	f, err := fsx.OpenRegular(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if g.settings.StrictModes {
		if err := authkeys.CheckOwnership(path, g.user.Home, g.user.UID); err != nil {
			return err
		}
	}
	parse(f)
	return nil
}

// readList reads one of the server's own lists of keys.
func readList(path string, parse func(io.Reader) (authkeys.KeyList, error)) (authkeys.KeyList, error) {
	f, err := fsx.OpenRegular(path)
	if err != nil {
		return authkeys.KeyList{}, err
	}
	defer f.Close()
	list, err := parse(f)
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return list, err
}

// notRevoked looks into RevokedKeys. As with sshd, a list that cannot be read
// revokes everything.
func notRevoked(files []string, key ssh.PublicKey) error {
	for _, path := range files {
		revoked, err := readList(path, authkeys.ParseRevoked)
		if err != nil {
			return fmt.Errorf("every key is refused: RevokedKeys: %w", err)
		}
		if revoked.Revokes(key) {
			return fmt.Errorf("key, or the authority that certifies it, is revoked by %s", path)
		}
	}
	return nil
}

// offersNoWay tells that nobody could ever prove who he is.
func offersNoWay(s sshdconfig.Settings) bool {
	files := grant{settings: s}.keyFiles()
	return !s.PubkeyAuthentication || len(files) == 0 && s.TrustedUserCAKeys == "" && s.AuthorizedKeysCommand == ""
}

// warnOfNoKeys tells at the start that nobody could log in as things are: a file
// of keys that is missing, or has none, is not found out otherwise until
// somebody stands before the door. What is revoked or certified, and what a
// program prints, is known only when a key is there.
func (r *rules) warnOfNoKeys(settings sshdconfig.Settings) {
	for _, path := range settings.RevokedKeys {
		if _, err := readList(path, authkeys.ParseRevoked); err != nil {
			r.log.Error("every key is refused as long as RevokedKeys cannot be read", "error", err)
		}
	}
	if settings.TrustedUserCAKeys != "" || settings.AuthorizedKeysCommand != "" {
		return
	}
	root, err := lookUp(session.Root.Name)
	reader := connection{server: r, complained: map[string]bool{}}
	g := grant{user: root, settings: settings}
	for _, path := range g.keyFiles() {
		entries, readErr := reader.readKeys(path, g)
		if len(entries) > 0 {
			return
		}
		if readErr == nil {
			readErr = fmt.Errorf("%s: no usable key", path)
		}
		err = errors.Join(err, readErr)
	}
	r.log.Warn("nobody can log in as long as no key is found", "reason", err)
}
