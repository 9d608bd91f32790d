//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package main

import "os"

// runMain says that there is no run and no lead: this system has no process
// groups, by which to end a command with all that it has started.
func runMain(args []string) (code int, done bool) {
	if len(args) == 0 || (args[0] != "run" && args[0] != "lead") {
		return 0, false
	}
	return say(exitUsage, usagef("%s needs Linux, macOS or a BSD: elsewhere a command could not be ended when the lock is lost", args[0]), os.Stdout, os.Stderr), true
}

// under reports whether this process runs under that keeper: there is none.
func under(int, string) bool { return false }
