//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package main

import "os"

// runMain reports that run and lead are not available. This system has no
// process groups, which are needed to end a command and all processes that it
// started.
func runMain(args []string) (code int, done bool) {
	if len(args) == 0 || (args[0] != "run" && args[0] != "lead") {
		return 0, false
	}
	return say(exitUsage, usagef("%s needs Linux, macOS or a BSD: elsewhere a command could not be ended when the lock is lost", args[0]), os.Stdout, os.Stderr), true
}

// under reports false: this system has no keepers.
func under(int, string) bool { return false }
