//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import "github.com/go-namedlock/namedlock/cmd/namedlock/internal/tree"

// under reports whether this process runs under that keeper.
func under(keeper int, started string) bool { return tree.Under(keeper, started) }
