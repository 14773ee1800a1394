package entrypoint

import (
	"fmt"
	"os"
	"sync"
)

// logFile is a file that lines are appended to, and that may be moved away. Each
// line is one write, so that several processes can share it.
type logFile struct {
	name string

	mu   sync.Mutex // protects the following
	file *os.File
}

func openLogFile(name string) (*logFile, error) {
	f := &logFile{name: name}
	return f, f.reopen()
}

// reopen goes on in the file that has the name now. After an error it goes on
// where it was.
func (f *logFile) reopen() error {
	file, err := os.OpenFile(f.name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open log file: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file != nil {
		f.file.Close()
	}
	f.file = file
	return nil
}

func (f *logFile) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.file.Write(p)
}

func (f *logFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.file.Close()
}
