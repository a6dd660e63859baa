package e2e

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
)

// endAtOnce spares a command that is soon over the second for which the race detector waits at its end.
const endAtOnce = "GORACE=atexit_sleep_ms=0"

// run runs a cbproxy command to its end.
func run(t *testing.T, args ...string) (status int, out, errors string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := exec.CommandContext(ctx, binary, args...)
	c.Env = append(os.Environ(), endAtOnce)
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil && !isExit(err) {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

func isExit(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit)
}
