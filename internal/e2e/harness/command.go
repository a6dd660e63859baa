package harness

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
)

// ExitWithoutDelay spares a command that is soon over the second for which the race detector waits at its end.
const ExitWithoutDelay = "GORACE=atexit_sleep_ms=0"

// RunCommand runs a cbproxy command to its end.
func RunCommand(t *testing.T, args ...string) (status int, out, errors string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), EventTimeout)
	defer cancel()
	c := exec.CommandContext(ctx, Binary, args...)
	c.Env = append(os.Environ(), ExitWithoutDelay)
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil && !IsExitError(err) {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

// IsExitError reports whether err says that a command exited with a status other than 0.
func IsExitError(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit)
}
