//go:build !linux

package main

import "syscall"

// attributes returns nil: if the director is killed, its workers do not end.
func attributes() *syscall.SysProcAttr { return nil }
