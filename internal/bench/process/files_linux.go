package process

import "syscall"

// RaiseFileLimit raises the limit of open files to n, for this process and those that it starts later, or as far as
// permitted. It returns the new limit.
func RaiseFileLimit(n int) int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	want := syscall.Rlimit{Cur: uint64(n), Max: max(uint64(n), limit.Max)}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &want) == nil {
		return n
	}
	want = syscall.Rlimit{Cur: limit.Max, Max: limit.Max} // only root can exceed limit.Max
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &want) == nil {
		limit = want
	}
	return int(limit.Cur) // #nosec G115 -- far below the maximum of int
}
