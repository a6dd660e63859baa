package harness

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
)

// ExitWithoutDelay is an environment variable that disables the race detector's sleep of one second at exit. Tests set
// it for short commands.
const ExitWithoutDelay = "GORACE=atexit_sleep_ms=0"

// RunCommand runs a cbproxy command until it exits, and returns its exit status, standard output and standard error.
func RunCommand(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), EventTimeout)
	defer cancel()
	c := exec.CommandContext(ctx, Binary(), args...)
	c.Env = append(os.Environ(), ExitWithoutDelay)
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil && !IsExitError(err) {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), out.String(), errs.String()
}

// IsExitError reports whether err is the error of a command that ran and exited with a status other than 0.
func IsExitError(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit)
}
