//lint:file-ignore ST1005 many errors are sshd's own words

package authkeys

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// FromCertificate turns what a user's certificate allows and forbids into
// options (ssh-keygen(1), CERTIFICATES). Other than a line of authorized_keys a
// certificate grants rights: without permit-pty there is no terminal. A critical
// option that is unknown makes the certificate useless; an unknown extension
// does not count.
func FromCertificate(cert *ssh.Certificate) (Options, error) {
	lacks := func(extension string) bool {
		_, ok := cert.Extensions[extension]
		return !ok
	}
	o := Options{
		NoPTY:             lacks("permit-pty"),
		NoPortForwarding:  lacks("permit-port-forwarding"),
		NoAgentForwarding: lacks("permit-agent-forwarding"),
		NoX11:             lacks("permit-X11-forwarding"),
		NoUserRC:          lacks("permit-user-rc"),
		NoTouchRequired:   !lacks("no-touch-required"),
	}
	for name, value := range cert.CriticalOptions {
		if err := o.setCritical(name, value); err != nil {
			return Options{}, fmt.Errorf("Invalid certificate options: %q: %w", name, err)
		}
	}
	return o, nil
}

func (o *Options) setCritical(name, value string) (err error) {
	switch name {
	case "force-command":
		o.Command = forced(value)
	case "source-address":
		o.Source, err = parseNetworks(value)
	case "verify-required":
		err = errVerify
	default:
		err = errors.New("unknown critical option")
	}
	return err
}

// parseNetworks reads addresses and networks. Unlike in from= there are
// neither patterns nor negations.
func parseNetworks(list string) ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for element := range strings.SplitSeq(list, ",") {
		network, err := netip.ParsePrefix(element)
		if addr, addrErr := netip.ParseAddr(element); addrErr == nil {
			network, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil || network != network.Masked() {
			return nil, fmt.Errorf("%q is not an address or a network", element)
		}
		networks = append(networks, network)
	}
	return networks, nil
}

// Merge is what is left of the options of a line when others hold as well,
// those of a certificate or of a second key: a right must be given by both, and
// the first deadline counts. Two commands that differ cannot both be obeyed,
// and of what may be forwarded only that is left which both name. Where
// Options.Permit decides, each must have been asked before.
func Merge(line, other Options) (Options, error) {
	if line.Command != "" && other.Command != "" && line.Command != other.Command {
		return Options{}, errors.New("forced command options do not match")
	}
	return Options{
		Command:           cmp.Or(line.Command, other.Command),
		From:              line.From,
		Source:            other.Source,
		Expiry:            earliest(line.Expiry, other.Expiry),
		Environment:       either(line.Environment, other.Environment),
		NoPTY:             line.NoPTY || other.NoPTY,
		NoPortForwarding:  line.NoPortForwarding || other.NoPortForwarding,
		NoAgentForwarding: line.NoAgentForwarding || other.NoAgentForwarding,
		NoX11:             line.NoX11 || other.NoX11,
		NoUserRC:          line.NoUserRC || other.NoUserRC,
		PermitOpen:        both(line.PermitOpen, other.PermitOpen),
		PermitListen:      both(line.PermitListen, other.PermitListen),
		NoTouchRequired:   line.NoTouchRequired && other.NoTouchRequired,
	}, nil
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func either(list, other []string) []string {
	if list != nil {
		return list
	}
	return other
}

// both is what two lists have in common; nil is one that has everything.
func both(list, other []string) []string {
	if list == nil || other == nil {
		return either(list, other)
	}
	common := []string{}
	for _, element := range list {
		if slices.Contains(other, element) {
			common = append(common, element)
		}
	}
	return common
}

// certify is whether a certificate holds for a client who is known to its
// authority by one of names, and what it allows. A certificate without any
// principal is nobody's (as since OpenSSH 10.3).
func certify(cert *ssh.Certificate, names []string, c Client) (Options, error) {
	options, err := FromCertificate(cert)
	if err != nil {
		return Options{}, err
	}
	if err := options.Permit(c.Remote, c.Host, c.Now); err != nil {
		return Options{}, fmt.Errorf("Refused by certificate options: %w", err)
	}
	switch i := slices.IndexFunc(names, func(name string) bool { return slices.Contains(cert.ValidPrincipals, name) }); {
	case cert.CertType != ssh.UserCert:
		return Options{}, errors.New("Certificate invalid: not a user certificate")
	case len(cert.ValidPrincipals) == 0:
		return Options{}, errors.New("Certificate lacks principal list")
	case i < 0:
		return Options{}, fmt.Errorf("Certificate invalid: name is not a listed principal: it is for %q, wanted is one of %q", cert.ValidPrincipals, names)
	default:
		return options, checkValidity(cert, names[i], c.Now)
	}
}

// checkValidity looks at the dates, and has the library check the signature.
func checkValidity(cert *ssh.Certificate, principal string, now time.Time) error {
	unix := uint64(max(now.Unix(), 0))
	switch {
	case unix < cert.ValidAfter:
		return errors.New("Certificate invalid: not yet valid")
	case unix >= cert.ValidBefore: // never true of "forever", the greatest number
		return errors.New("Certificate invalid: expired")
	}
	checker := ssh.CertChecker{
		Clock:                    func() time.Time { return now },
		SupportedCriticalOptions: []string{"force-command", "source-address"},
	}
	if err := checker.CheckCert(principal, cert); err != nil {
		return fmt.Errorf("Certificate invalid: %w", err)
	}
	return nil
}

// Certify decides on a certificate whose authority the server trusts
// (sshd_config(5), TrustedUserCAKeys): it must name the user. With principals,
// of AuthorizedPrincipalsFile or its command, it must name one of those
// instead, and the options of that line hold, too. As with sshd the first line
// that has one of its names decides, also if it refuses. nil stands for none of
// either, and an empty list lets nobody in.
func Certify(cert *ssh.Certificate, principals []Principal, c Client) (Options, error) {
	if principals == nil {
		return certify(cert, []string{c.User}, c)
	}
	i := slices.IndexFunc(principals, func(p Principal) bool { return slices.Contains(cert.ValidPrincipals, p.Name) })
	if i < 0 {
		return Options{}, errors.New("Certificate does not contain an authorized principal")
	}
	options, err := principals[i].certify(cert, c)
	if err != nil {
		return Options{}, fmt.Errorf("line %d: %w", principals[i].Line, err)
	}
	return options, nil
}

func (p Principal) certify(cert *ssh.Certificate, c Client) (Options, error) {
	if err := p.Options.Permit(c.Remote, c.Host, c.Now); err != nil {
		return Options{}, fmt.Errorf("Refused by certificate principals options: %w", err)
	}
	options, err := certify(cert, []string{p.Name}, c)
	if err != nil {
		return Options{}, err
	}
	return Merge(p.Options, options)
}
