//go:build unix

package main

import (
	"syscall"
	"time"
)

// cpuTime is the time of cores that this process has taken, 0 where the system does
// not tell.
func cpuTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
