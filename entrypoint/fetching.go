package entrypoint

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"

	"buildenv/internal/progress"
)

// trusted are the authorities that certificates are verified with: the system's
// and those of CA_CERT. It is nil for the system's alone, and where no certificate
// is looked at.
func (c *Config) trusted(url string) (*x509.CertPool, error) {
	scheme, _, _ := strings.Cut(url, "://")
	if c.CACert == "" || !strings.EqualFold(scheme, "https") {
		return nil, nil
	}
	text, err := os.ReadFile(c.CACert)
	if err != nil {
		return nil, fmt.Errorf("CA_CERT: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // an image without any
	}
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("CA_CERT: %s: %w", c.CACert, errors.New("no certificate in it"))
	}
	return roots, nil
}

// unpackMeters tell how far an image root is. While it is fetched that is what has
// arrived, which is what takes the time, and then how much is left to unpack.
type unpackMeters struct {
	start func(what string) *progress.Meter

	mu       sync.Mutex // protects the following
	meter    *progress.Meter
	fetching bool
	begun    bool // something has arrived
}

func startUnpackMeters(w io.Writer, log *slog.Logger, fetching bool) *unpackMeters {
	m := &unpackMeters{fetching: fetching, start: func(what string) *progress.Meter { return progress.Start(w, log, what, 0) }}
	if fetching {
		m.meter = m.start("fetching and unpacking")
	} else {
		m.meter = m.start("unpacking")
	}
	return m
}

// unpacked is told how much has been unpacked.
func (m *unpackMeters) unpacked(done, total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.fetching {
		m.meter.Of(done, total)
	}
}

// fetched is told how much has arrived.
func (m *unpackMeters) fetched(done, total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.fetching {
		return
	}
	if !m.begun {
		m.begun = true
		m.meter.From(done)
	}
	m.meter.Of(done, total)
	if done == total {
		m.meter.Done()
		m.meter, m.fetching = m.start("unpacking"), false
	}
}

func (m *unpackMeters) done() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.meter.Done()
}
