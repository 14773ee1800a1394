package sshd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"buildenv/sshd/session"
	"buildenv/sshd/sshdconfig"
)

// rules are a configuration and what follows from it. A connection keeps those
// that were in force when it was accepted, as a process of sshd does; what is
// not a matter of configuration is the server's.
type rules struct {
	*Server
	config     Config
	static     sshdconfig.Server
	root       sshdconfig.Settings // as for root from anywhere
	log        *slog.Logger
	algorithms algorithms
	keys       *hostKeys
	ready      func() error // sees to a first host key, once
}

// newRules checks what can be checked before anybody connects. It is an error
// when nobody could ever log in.
func (s *Server) newRules(c Config) (*rules, error) {
	root, err := checkAuthenticator(c.Settings)
	if err != nil {
		return nil, err
	}
	static := c.Settings.Server()
	chosen := chooseAlgorithms(static)
	log := slog.New(logLevel{c.Log.Handler(), levels[root.LogLevel]})
	r := &rules{
		Server: s, config: c, static: static, root: root, log: log, algorithms: chosen,
		keys: loadHostKeys(static, c, chosen.hostKeys, log),
	}
	r.ready = sync.OnceValue(r.prepare)
	r.warn()
	return r, nil
}

// warn tells what keeps root out, though it is no error.
func (r *rules) warn() {
	if reason := shutOut(r.root); reason != nil {
		r.log.Warn("root cannot log in, unless a Match block has it otherwise", "reason", reason)
	}
	r.warnOfNoKeys(r.root)
}

// prepare sees to one host key. Others, where they have to be made, follow; that
// ends with their list or with the server.
func (r *rules) prepare() error {
	missing, err := r.keys.prepare()
	if err != nil {
		return err
	}
	go func() {
		r.making.Lock()
		defer r.making.Unlock()
		r.keys.generate(r.stopping, missing)
	}()
	return nil
}

// Reload puts another configuration into force for connections yet to come, with
// host keys read anew. Listeners that it has too stay open. After an error
// everything is as it was.
func (s *Server) Reload(ctx context.Context, settings Settings) error {
	config := s.inForce.Load().config
	config.Settings = settings
	r, err := s.newRules(config)
	if err == nil {
		err = r.ready()
	}
	if err == nil {
		err = s.listen(ctx, r)
	}
	if err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	return nil
}

// checkAuthenticator: public keys are the only way in, so without them the
// server would be shut to everybody, or, with a library that takes "no method"
// for "no authentication", open to everybody.
func checkAuthenticator(s Settings) (root sshdconfig.Settings, err error) {
	root, err = s.For(sshdconfig.Connection{User: session.Root.Name})
	if err == nil && offersNoWay(root) {
		err = errors.New("start ssh server: nobody could log in: set PubkeyAuthentication yes and an AuthorizedKeysFile")
	}
	return root, err
}
