package sshd

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"buildenv/internal/fsx"
	"buildenv/sshd/sshdconfig"
)

// keyKind is a kind of host key that the server makes if it is missing, as
// ssh-keygen -A does.
type keyKind struct {
	file string
	make func() (crypto.PrivateKey, error)
}

// keyKinds are in order of their cost: the first one is there before a client
// could notice, and one is enough to begin.
var keyKinds = []keyKind{
	{"ssh_host_ed25519_key", func() (crypto.PrivateKey, error) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}},
	{"ssh_host_ecdsa_key", func() (crypto.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }},
	{"ssh_host_rsa_key", func() (crypto.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 3072) }},
}

// hostKeys are the keys that the server proves itself with.
type hostKeys struct {
	dir        string
	keep       bool      // none is made
	algorithms []string  // that may be used
	kinds      []keyKind // still to be looked for in dir
	log        *slog.Logger

	mu      sync.Mutex // protects the following
	signers []ssh.Signer
	waiting []hostCertificate // whose keys have not been seen yet
}

// hostCertificate says for which names a host key is good (sshd_config(5),
// HostCertificate).
type hostCertificate struct {
	file string
	cert *ssh.Certificate
}

// loadHostKeys reads the keys that are asked for by name. One with the name of
// a default key may be missing: it is made with the others. One that cannot be
// read is logged. Without names the default keys are meant.
func loadHostKeys(static sshdconfig.Server, c Config, algorithms []string, log *slog.Logger) *hostKeys {
	h := &hostKeys{dir: c.HostKeyDir, keep: c.KeepHostKeys, algorithms: algorithms, log: log}
	h.certify(static.HostCertificates)
	if len(static.HostKeys) == 0 {
		h.kinds = keyKinds
	}
	for _, name := range static.HostKeys {
		err := h.load(name)
		if i := h.kindOf(name); i >= 0 && !h.keep && errors.Is(err, fs.ErrNotExist) {
			h.kinds = append(h.kinds, keyKinds[i])
		} else if err != nil {
			log.Error("Unable to load host key: "+name, "error", err)
		}
	}
	return h
}

// certify reads certificates of host keys, before any key. One that cannot be
// used is logged, as with sshd.
func (h *hostKeys) certify(files []string) {
	for _, file := range files {
		cert, err := readHostCertificate(file)
		if err != nil {
			h.log.Error("Could not load host certificate: "+file, "error", err)
			continue
		}
		h.waiting = append(h.waiting, hostCertificate{file, cert})
	}
}

func readHostCertificate(file string) (*ssh.Certificate, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		return nil, err
	}
	cert, ok := key.(*ssh.Certificate)
	if !ok || cert.CertType != ssh.HostCert {
		return nil, errors.New("not a host certificate")
	}
	return cert, nil
}

// complain tells of certificates that no key has come for.
func (h *hostKeys) complain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.waiting {
		h.log.Error("No matching private key for certificate: " + c.file)
	}
}

func (h *hostKeys) kindOf(name string) int {
	return slices.IndexFunc(keyKinds, func(k keyKind) bool { return filepath.Join(h.dir, k.file) == filepath.Clean(name) })
}

func (h *hostKeys) load(name string) error {
	text, err := readPrivate(name)
	if err != nil {
		return fmt.Errorf("host key: %w", err)
	}
	key, err := ssh.ParseRawPrivateKey(text)
	if err != nil {
		return fmt.Errorf("host key: %s: %w", name, err)
	}
	return h.add(name, key)
}

// readPrivate reads a file that, if it is ours, nobody else can (sshkey_perm_ok
// in OpenSSH's authfile.c). What is mounted from elsewhere may be anybody's.
func readPrivate(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, fmt.Errorf("stat %s: %w", name, err)
	}
	if int(st.Uid) == os.Geteuid() && st.Mode&0o077 != 0 {
		return nil, fmt.Errorf("%s: UNPROTECTED PRIVATE KEY FILE: permissions %04o are too open, try chmod 600", name, st.Mode&0o7777)
	}
	return io.ReadAll(f)
}

// add takes a key into use, with those of its algorithms that may be used.
func (h *hostKeys) add(name string, key crypto.PrivateKey) error {
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return fmt.Errorf("host key: %s: %w", name, err)
	}
	all := []string{signer.PublicKey().Type()}
	if all[0] == ssh.KeyAlgoRSA { // one kind of key, several signatures (RFC 8332)
		all = []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSA}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	usable := h.usable(all, signature)
	if len(usable) == 0 {
		h.log.Warn("host key not used: HostKeyAlgorithms has no algorithm for it", "file", name)
		return h.addCertified(signer, all)
	}
	limited, err := ssh.NewSignerWithAlgorithms(signer.(ssh.AlgorithmSigner), usable)
	if err != nil {
		return fmt.Errorf("host key: %s: %w", name, err)
	}
	h.signers = append(h.signers, limited)
	return h.addCertified(signer, all)
}

// addCertified takes certificates of a key into use, too. It is called with mu held.
func (h *hostKeys) addCertified(signer ssh.Signer, all []string) error {
	i := slices.IndexFunc(h.waiting, func(c hostCertificate) bool { return sameKey(c.cert, signer.PublicKey()) })
	if i < 0 {
		return nil
	}
	c := h.waiting[i]
	h.waiting = slices.Delete(h.waiting, i, i+1)
	usable := h.usable(all, certifiedSignature)
	if len(usable) == 0 {
		h.log.Warn("host certificate not used: HostKeyAlgorithms has no algorithm for it", "file", c.file)
		return nil
	}
	limited, err := ssh.NewSignerWithAlgorithms(signer.(ssh.AlgorithmSigner), usable)
	if err == nil {
		limited, err = withCertificate(c.cert, limited)
	}
	if err != nil {
		return fmt.Errorf("host certificate: %s: %w", c.file, err)
	}
	h.signers = append(h.signers, limited)
	return nil
}

func withCertificate(cert *ssh.Certificate, key ssh.MultiAlgorithmSigner) (ssh.MultiAlgorithmSigner, error) {
	signer, err := ssh.NewCertSigner(cert, key)
	if err != nil {
		return nil, err
	}
	limited, ok := signer.(ssh.MultiAlgorithmSigner)
	if !ok {
		return nil, errors.New("the library forgets the algorithms of its key")
	}
	return limited, nil
}

// usable are the signatures that HostKeyAlgorithms allows, by the name that it has for them.
func (h *hostKeys) usable(all []string, name func(string) string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(a string) bool { return !slices.Contains(h.algorithms, name(a)) })
}

func signature(algorithm string) string { return algorithm }

// prepare loads the default keys that are there, makes one if there is none at
// all, and returns those that are still missing.
func (h *hostKeys) prepare() (missing []keyKind, err error) {
	for _, k := range h.kinds {
		err := h.load(filepath.Join(h.dir, k.file))
		if errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, k)
		} else if err != nil {
			h.log.Warn("host key not used; mend it, or remove it to get a new one", "error", err)
		}
	}
	if h.keep {
		missing = nil
	}
	for len(h.all()) == 0 && len(missing) > 0 {
		if err := h.create(context.Background(), missing[0]); err != nil {
			return nil, err
		}
		missing = missing[1:]
	}
	if len(h.all()) == 0 {
		return nil, fmt.Errorf("%w: check HostKey and HostKeyAlgorithms", ErrNoHostKeys)
	}
	return missing, nil
}

// generate makes the rest. Clients that connect meanwhile see what is there.
// After a reload somebody may have made a key just before.
func (h *hostKeys) generate(ctx context.Context, missing []keyKind) {
	for _, k := range missing {
		err := h.load(filepath.Join(h.dir, k.file))
		if errors.Is(err, fs.ErrNotExist) {
			err = h.create(ctx, k)
		}
		if err != nil {
			h.log.Error("host key not made", "error", err)
		}
	}
	h.complain()
}

// create makes a key and stores it. A key that cannot be stored serves until
// the server ends. Nothing is stored after ctx.
func (h *hostKeys) create(ctx context.Context, k keyKind) error {
	if ctx.Err() != nil {
		return nil
	}
	name := filepath.Join(h.dir, k.file)
	key, err := k.make()
	if err != nil {
		return fmt.Errorf("make host key: %s: %w", name, err)
	}
	if ctx.Err() != nil {
		return nil
	}
	if err := store(name, key); err != nil {
		h.log.Warn("host key is kept in memory only: clients will see another one after a restart", "error", err)
	}
	if signer, err := ssh.NewSignerFromKey(key); err == nil {
		h.log.Info("host key made", "file", name, "fingerprint", ssh.FingerprintSHA256(signer.PublicKey()))
	}
	return h.add(name, key)
}

// store writes a key as ssh-keygen does.
func store(name string, key crypto.PrivateKey) error {
	const comment = "buildenv"
	block, err := ssh.MarshalPrivateKey(key, comment)
	if err != nil {
		return err
	}
	public, err := ssh.NewPublicKey(key.(crypto.Signer).Public())
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := fsx.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
		return err
	}
	line := bytes.TrimSuffix(ssh.MarshalAuthorizedKey(public), []byte("\n"))
	return fsx.WriteFile(name+".pub", append(line, " "+comment+"\n"...), 0o644)
}

// all are the keys that are ready.
func (h *hostKeys) all() []ssh.Signer {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.signers)
}
