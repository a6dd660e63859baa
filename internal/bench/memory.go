package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// memory is what a process has in memory, in MB.
type memory struct {
	RSS  float64
	Anon float64 // its own
	File float64 // of files, which the kernel may take back
	Peak float64 // the most that RSS ever was
}

func (m memory) String() string {
	return fmt.Sprintf("%.0f MB in memory (%.0f its own, %.0f of files; at most %.0f ever)", m.RSS, m.Anon, m.File, m.Peak)
}

// memoryOf reads what Linux tells of a process.
func memoryOf(pid int) (m memory, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return m, err
	}
	fields := map[string]*float64{"VmRSS": &m.RSS, "RssAnon": &m.Anon, "RssFile": &m.File, "VmHWM": &m.Peak}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		if f := fields[name]; f != nil {
			kb, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
			if err != nil {
				return m, fmt.Errorf("memory of process %d: %w", pid, err)
			}
			*f = float64(kb) * 1024 / 1e6
		}
	}
	return m, nil
}
