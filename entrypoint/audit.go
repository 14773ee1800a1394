package entrypoint

import (
	"fmt"

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

// auditWithLog stands for no file.
const auditWithLog = "-"
