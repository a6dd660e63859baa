package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Memory is the memory use of a process, in MB.
type Memory struct {
	RSS  float64
	Anon float64 // anonymous
	File float64 // page cache, which the kernel can reclaim
	Peak float64 // largest RSS
}

// String describes the memory use.
func (m Memory) String() string {
	return fmt.Sprintf("%.0f MB resident (%.0f anonymous, %.0f page cache; peak %.0f)", m.RSS, m.Anon, m.File, m.Peak)
}

// ReadMemory reads the memory use of a process from /proc.
func ReadMemory(pid int) (m Memory, err error) {
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
