package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
)

// Contenders that are compared at the same time share the last core, and everything else has the
// others, so that none is disturbed more than another.
var (
	contendersCore = strconv.Itoa(runtime.NumCPU() - 1)
	otherCores     = fmt.Sprintf("0-%d", runtime.NumCPU()-2)
	allCores       = fmt.Sprintf("0-%d", runtime.NumCPU()-1)
)

// taskset is util-linux's, "" if it is not there or there is one core alone: then everything runs
// where it likes.
func taskset() string {
	path, err := exec.LookPath("taskset")
	if err != nil || runtime.NumCPU() == 1 {
		return ""
	}
	return path
}

// on makes a command that runs on the given cores.
func on(cores string, command ...string) []string {
	if path := taskset(); path != "" {
		return append([]string{path, "--cpu-list", cores}, command...)
	}
	return command
}

// moveTo moves this process, which makes the load, to the given cores.
func moveTo(ctx context.Context, cores string) error {
	path := taskset()
	if path == "" {
		return nil
	}
	if out, err := exec.CommandContext(ctx, path, "--all-tasks", "--cpu-list", "--pid", cores, strconv.Itoa(os.Getpid())).CombinedOutput(); err != nil {
		return fmt.Errorf("move the load to cores %s: %w: %s", cores, err, out)
	}
	return nil
}
