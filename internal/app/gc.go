package app

import (
	"log/slog"
	"math"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// gcPercent suits the small heap and many short-lived objects of a sidecar. With Go's default of 100, garbage collection
// would take more than a tenth of the CPU time.
const gcPercent = 400

// TuneGC sets the pace of the garbage collector and, in a cgroup with a memory limit, a soft memory limit of nine tenths of
// that. GOGC and GOMEMLIMIT take precedence.
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
