package entrypoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"buildenv/internal/fsx"
	"buildenv/sshd/session"
)

// recordings is where what is seen on terminals is recorded.
func (c *Config) recordings() session.Recordings {
	return session.Recordings{Dir: c.RecordingsDir, Required: isTrue(c.RecordingsRequired)}
}

// auditFile is the file that the audit goes to, nil if it goes with the log.
func (c *Config) auditFile() (*logFile, error) {
	if c.AuditLog == "" || c.AuditLog == auditWithLog {
		return nil, nil
	}
	f, err := openLogFile(c.AuditLog)
	if err != nil {
		return nil, fmt.Errorf("SSH_AUDIT_LOG: %w", err)
	}
	return f, nil
}

// auditOutside is an error if the audit's file would lie in an image root, where a
// jailed user could change it, and become a part of the image.
func (c *Config) auditOutside(root string) error {
	if c.AuditLog == "" || c.AuditLog == auditWithLog {
		return nil
	}
	folder := filepath.Dir(c.AuditLog)
	if real, err := filepath.EvalSymlinks(c.AuditLog); err == nil {
		folder = filepath.Dir(real)
	}
	f, err := os.Open(folder)
	if err == nil {
		defer f.Close()
		err = fsx.Outside(f, root)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // opening it will tell of that
		return fmt.Errorf("SSH_AUDIT_LOG: %w", err)
	}
	return nil
}

// auditWithLog stands for no file.
const auditWithLog = "-"
