package sshdconfig

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"buildenv/internal/pattern"
)

// defaultPenalties are in force for what a PerSourcePenalties line leaves out.
var defaultPenalties = Penalties{
	Crash: 90 * time.Second, AuthFail: 5 * time.Second, NoAuth: time.Second, GraceExceeded: 10 * time.Second,
	RefuseConnection: 10 * time.Second, InvalidUser: 5 * time.Second,
	Min: 15 * time.Second, Max: 10 * time.Minute,
	MaxSources4: 65536, MaxSources6: 65536, Overflow4: Permissive, Overflow6: Permissive,
}

// offences are the offences and bounds, in the order in which sshd prints them.
var offences = []struct {
	name  string
	field func(*Penalties) *time.Duration
}{
	{"crash", func(p *Penalties) *time.Duration { return &p.Crash }},
	{"authfail", func(p *Penalties) *time.Duration { return &p.AuthFail }},
	{"noauth", func(p *Penalties) *time.Duration { return &p.NoAuth }},
	{"invaliduser", func(p *Penalties) *time.Duration { return &p.InvalidUser }},
	{"grace-exceeded", func(p *Penalties) *time.Duration { return &p.GraceExceeded }},
	{"refuseconnection", func(p *Penalties) *time.Duration { return &p.RefuseConnection }},
	{"max", func(p *Penalties) *time.Duration { return &p.Max }},
	{"min", func(p *Penalties) *time.Duration { return &p.Min }},
}

// String is the list in sshd's notation.
func (p Penalties) String() string {
	if !p.Enabled {
		return "no"
	}
	var b strings.Builder
	for _, d := range offences {
		fmt.Fprintf(&b, "%s:%d ", d.name, int(d.field(&p).Seconds()))
	}
	fmt.Fprintf(&b, "max-sources4:%d max-sources6:%d overflow:%s overflow6:%s", p.MaxSources4, p.MaxSources6, p.Overflow4, p.Overflow6)
	return b.String()
}

// setPenalties takes "yes", "no" or a list of OFFENCE:DURATION. Of several
// lines the first value for each offence counts.
func setPenalties(v *values, d *directive) error {
	args, err := d.some()
	if err != nil {
		return err
	}
	for _, arg := range args {
		if enabled, err := parseFlag(arg); err == nil {
			if len(args) > 1 {
				return d.notAlone(arg)
			}
			v.PerSource.Penalties.Enabled = enabled && len(v.penalties) == 0 || v.PerSource.Penalties.Enabled
			v.penalties[""] = true
			continue
		}
		name, value, _ := strings.Cut(arg, ":")
		if err := v.penalize(name, value); err != nil {
			return fmt.Errorf("%s %s: %w", d.spelt, arg, err)
		}
	}
	return nil
}

// penalize sets one value, unless an earlier line has. It also switches
// penalties on, even after a "no".
func (v *values) penalize(name, value string) error {
	p := v.PerSource.Penalties
	if err := p.set(name, value); err != nil || v.penalties[name] {
		return err
	}
	v.penalties[name], p.Enabled = true, true
	if !v.penalties["overflow6"] {
		p.Overflow6 = p.Overflow4
	}
	v.PerSource.Penalties = p
	return nil
}

func (p *Penalties) set(name, value string) (err error) {
	for _, d := range offences {
		if d.name == name {
			*d.field(p), err = parseDuration(value)
			return err
		}
	}
	switch name {
	case "max-sources4":
		p.MaxSources4, err = parseCount(value)
	case "max-sources6":
		p.MaxSources6, err = parseCount(value)
	case "overflow":
		p.Overflow4, err = parseOverflow(value)
	case "overflow6":
		p.Overflow6, err = parseOverflow(value)
	default:
		err = errors.New("unsupported keyword")
	}
	return err
}

func parseOverflow(value string) (Overflow, error) {
	switch o := Overflow(value); o {
	case Permissive, DenyAll:
		return o, nil
	}
	return "", fmt.Errorf("want %s or %s", Permissive, DenyAll)
}

// setExempt takes a list of addresses and networks.
func setExempt(v *values, d *directive) error {
	list, err := d.one()
	if err != nil {
		return err
	}
	if _, err := pattern.Addresses(list, netip.Addr{}); err != nil {
		return fmt.Errorf("keyword %s invalid address argument: %w", d.spelt, err)
	}
	v.PerSource.Exempt = noneOr(list)
	return nil
}
