//go:build !unix

package main

import "time"

// cpuTime returns the processor time that this process has used, and whether
// the system reports it.
func cpuTime() (time.Duration, bool) { return 0, false }
