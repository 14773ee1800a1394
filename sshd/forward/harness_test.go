package forward

import (
	"log/slog"
	"testing"
)

// newForwarder makes a Forwarder that is closed with the test.
func newForwarder(t *testing.T, c Config, client Client) *Forwarder {
	t.Helper()
	c.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	c.Audit = slog.New(slog.DiscardHandler)
	f := New(c, client)
	t.Cleanup(f.Close)
	return f
}
