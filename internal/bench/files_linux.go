package main

import "syscall"

// raiseFileLimit has this process, and those that it starts from now on, open n files at once, or as many as they may. It
// returns how many those are.
func raiseFileLimit(n int) int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	want := syscall.Rlimit{Cur: uint64(n), Max: max(uint64(n), limit.Max)}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &want) == nil {
		return n
	}
	want = syscall.Rlimit{Cur: limit.Max, Max: limit.Max} // who is not root can't go further
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &want) == nil {
		limit = want
	}
	return int(limit.Cur) // #nosec G115 -- far from the end of int
}
