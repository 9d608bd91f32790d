//go:build !linux

package main

import "syscall"

// attributes: nothing ends the workers with the director, where that is killed.
func attributes() *syscall.SysProcAttr { return nil }
