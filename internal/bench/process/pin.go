package process

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
)

// Lists of cores for taskset. Contenders that are measured at the same time share ContenderCore, and all other processes use
// OtherCores, so that all contenders are disturbed equally.
var (
	ContenderCore = strconv.Itoa(runtime.NumCPU() - 1)
	OtherCores    = fmt.Sprintf("0-%d", runtime.NumCPU()-2)
	AllCores      = fmt.Sprintf("0-%d", runtime.NumCPU()-1)
)

// taskset returns the path of the taskset command. It returns "" if there is none or only one core; processes are
// then not pinned.
func taskset() string {
	path, err := exec.LookPath("taskset")
	if err != nil || runtime.NumCPU() == 1 {
		return ""
	}
	return path
}

// OnCores returns a command that runs on the given cores.
func OnCores(cores string, command ...string) []string {
	if path := taskset(); path != "" {
		return append([]string{path, "--cpu-list", cores}, command...)
	}
	return command
}

// MoveLoad moves this process, the load generator, to the given cores.
func MoveLoad(ctx context.Context, cores string) error {
	path := taskset()
	if path == "" {
		return nil
	}
	if out, err := exec.CommandContext(ctx, path, "--all-tasks", "--cpu-list", "--pid", cores, strconv.Itoa(os.Getpid())).CombinedOutput(); err != nil {
		return fmt.Errorf("move the load generator to cores %s: %w: %s", cores, err, out)
	}
	return nil
}
