package sshd

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"buildenv/sshd/authkeys"
	"buildenv/sshd/session"
	"buildenv/sshd/sshdconfig"
)

// programPatience bounds a program that is asked for keys or principals; it may
// have to ask others over the network.
const programPatience = 30 * time.Second

// program is one that the configuration names, to be asked about a user.
type program struct {
	directive string
	command   string // with tokens in it
	user      string // that it runs as
	tokens    map[byte]string
	ask       string // argument of a command without any, "" for none
}

// findByCommand asks AuthorizedKeysCommand (sshd_config(5)).
func (c *connection) findByCommand(g grant, key ssh.PublicKey) (authkeys.Entry, error) {
	p := program{"AuthorizedKeysCommand", g.settings.AuthorizedKeysCommand, g.settings.AuthorizedKeysCommandUser, c.keyTokens(g, key), g.user.Name}
	output, err := c.run(p, g.user)
	if err != nil {
		return authkeys.Entry{}, err
	}
	entries, problems := authkeys.Parse(bytes.NewReader(output))
	c.complain("authorized key not used", p.command, problems)
	entry, err := authkeys.Authorize(entries, key, c.client(g))
	if err != nil {
		return authkeys.Entry{}, fmt.Errorf("%s: %w", p.directive, err)
	}
	return entry, nil
}

// principalsByCommand asks AuthorizedPrincipalsCommand (sshd_config(5)).
func (c *connection) principalsByCommand(g grant, cert *ssh.Certificate) ([]authkeys.Principal, error) {
	tokens := c.keyTokens(g, cert)
	tokens['i'], tokens['s'] = cert.KeyId, strconv.FormatUint(cert.Serial, 10)
	tokens['F'], tokens['K'], tokens['T'] = c.fingerprint(cert.SignatureKey), encoded(cert.SignatureKey), cert.SignatureKey.Type()
	p := program{"AuthorizedPrincipalsCommand", g.settings.AuthorizedPrincipalsCommand, g.settings.AuthorizedPrincipalsCommandUser, tokens, ""}
	output, err := c.run(p, g.user)
	if err != nil {
		return nil, err
	}
	list, problems := authkeys.ParsePrincipals(bytes.NewReader(output))
	c.complain("authorized principal not used", p.command, problems)
	return list, nil
}

// keyTokens are what sshd_config(5), TOKENS, has for both directives.
func (c *connection) keyTokens(g grant, key ssh.PublicKey) map[byte]string {
	return map[byte]string{
		'u': g.user.Name, 'h': g.user.Home, 'U': strconv.Itoa(g.user.UID), 'D': "",
		'C': c.ends(),
		'k': encoded(key), 't': key.Type(), 'f': c.fingerprint(key),
	}
}

// ends are those of the connection, as token %C and SSH_CONNECTION have them.
func (c *connection) ends() string {
	remote, remotePort := session.Endpoint(c.remote)
	local, localPort := session.Endpoint(c.local)
	return fmt.Sprintf("%s %d %s %d", remote, remotePort, local, localPort)
}

func encoded(key ssh.PublicKey) string { return base64.StdEncoding.EncodeToString(key.Marshal()) }

// run returns what a program prints about a user. It must succeed, and be one
// that nobody but root could have written: it says who may come in.
func (c *connection) run(p program, about user) (output []byte, err error) {
	cmd, err := p.prepare(about)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.directive, err)
	}
	ctx, cancel := context.WithTimeout(c.server.stopping, c.server.patience)
	defer cancel()
	text := &bounded{left: authkeys.MaxFile}
	cmd.Stdout = text
	if err := runGroup(ctx, cmd); err != nil {
		return nil, fmt.Errorf("%s: %s: %w", p.directive, cmd.Path, err)
	}
	return text.kept, nil
}

func (p program) prepare(about user) (*exec.Cmd, error) {
	words, err := sshdconfig.Words(p.command)
	if err != nil || len(words) == 0 {
		return nil, errors.Join(errors.New("no command"), err)
	}
	if len(words) == 1 && p.ask != "" {
		words = append(words, p.ask)
	}
	for i := range words[1:] {
		if words[1+i], err = expandTokens(words[1+i], p.tokens); err != nil {
			return nil, err
		}
	}
	if !filepath.IsAbs(words[0]) {
		return nil, fmt.Errorf("%s: path is not absolute", words[0])
	}
	if err := authkeys.CheckOwnership(words[0], "", 0); err != nil {
		return nil, err
	}
	identity, err := identityOf(p.user)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "USER=" + about.Name, "LOGNAME=" + about.Name, "HOME=" + about.Home}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: identity}
	return cmd, nil
}

// identityOf is whom a program runs as; nil is the server itself.
func identityOf(name string) (*syscall.Credential, error) {
	if name == "" {
		return nil, errors.New("no user to run the program as is configured")
	}
	u, err := lookUp(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if u.UID == os.Geteuid() {
		return nil, nil
	}
	identity := &syscall.Credential{Uid: uint32(u.UID), Gid: uint32(u.GID)}
	for _, group := range u.groups {
		identity.Groups = append(identity.Groups, uint32(group.gid))
	}
	return identity, nil
}

// expandTokens replaces % and a letter. One that is not in the list is an error.
func expandTokens(text string, tokens map[byte]string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			b.WriteByte(text[i])
			continue
		}
		i++
		if i == len(text) {
			return "", errors.New("a % at the end stands for nothing")
		}
		value, ok := tokens[text[i]]
		if text[i] == '%' {
			value, ok = "%", true
		}
		if !ok {
			return "", fmt.Errorf("unknown token %%%c", text[i])
		}
		b.WriteString(value)
	}
	return b.String(), nil
}

// runGroup runs a program in a process group of its own, all of which ends with
// ctx. It is an error if what it leaves behind keeps its output open, and the
// end of that, too.
func runGroup(ctx context.Context, cmd *exec.Cmd) error {
	cmd.SysProcAttr.Setpgid = true
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return err
	}
	kill := func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	stop := context.AfterFunc(ctx, kill)
	defer stop()
	err := cmd.Wait()
	if errors.Is(err, exec.ErrWaitDelay) { // somebody of the group holds on to the output
		kill()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

var errTooMuch = fmt.Errorf("prints more than %d bytes", authkeys.MaxFile)

// bounded keeps what is written to it, up to a limit. It is no bytes.Buffer, into
// which io.Copy would read past Write.
type bounded struct {
	kept []byte
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, errTooMuch
	}
	b.kept = append(b.kept, p...)
	return len(p), nil
}
