package app

import (
	"log/slog"
	"math"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// gcPercent is the GOGC value for a sidecar, which has a small heap and many short-lived objects. With Go's default of 100,
// garbage collection would take more than 10 % of the CPU time.
const gcPercent = 400

// TuneGC sets GOGC and, in a cgroup with a memory limit, GOMEMLIMIT to 90 % of that limit, unless the environment sets them.
func TuneGC(logger *slog.Logger) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if limit, err := memlimit.Set(); err != nil {
		logger.Debug("no memory limit found", "error", err)
	} else if limit != math.MaxInt64 {
		logger.Debug("soft memory limit set", "bytes", limit)
	}
}
