package harness

import (
	"bytes"
	"strings"
	"sync"
	"testing"
)

// LogBuffer is an io.Writer that collects the log of a process. It is safe for concurrent use.
type LogBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (l *LogBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String returns the log so far.
func (l *LogBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// CheckLog fails the test if the log reports a data race or a panic. If the test has failed, it prints the log with the
// name of the process.
func CheckLog(t testing.TB, process string, log *LogBuffer) {
	t.Helper()
	if strings.Contains(log.String(), "DATA RACE") || strings.Contains(log.String(), "panic while serving") {
		t.Error(process + " had a data race or a panic")
	}
	if t.Failed() {
		t.Logf("log of %s:\n%s", process, log)
	}
}
