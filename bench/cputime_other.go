//go:build !unix

package main

import "time"

// cpuTime returns the processor time that this process has used, and whether
// the system can tell.
func cpuTime() (time.Duration, bool) { return 0, false }
