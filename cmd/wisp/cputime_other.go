//go:build !unix

package main

import "time"

// cpuTime is the time of cores that this process has taken; this system is not asked.
func cpuTime() time.Duration { return 0 }
